"""The steps for an Ollama that is stuck: which, in what order, and when."""

import pytest

from ccproxy_supervisor.core.ladder import CALM, Ladder, Step, allowed
from ccproxy_supervisor.core.settings import HelpSettings

ALL = HelpSettings(unload=True, restart_runner=True, restart_command=("/bin/true",))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (HelpSettings(), [Step.SHOUT]),
        (ALL, list(Step)),
        (HelpSettings(restart_runner=True), [Step.RESTART_RUNNER, Step.SHOUT]),
        (HelpSettings(restart_command=("x",)), [Step.RESTART_COMMAND, Step.SHOUT]),
    ],
)
def test_only_what_is_allowed_is_done_and_the_mildest_first(settings, steps):
    assert list(allowed(settings)) == steps


def climb(ladder, settings, start, seconds, *, confirmed=True):
    """Ask every five seconds; returns when which step was due."""
    looks = range(start, start + seconds, 5)
    steps = [(now - start, ladder.step(now, now if confirmed else start, settings)) for now in looks]
    return [(when, step) for when, step in steps if step]


def test_each_step_is_taken_once_and_the_next_only_when_it_did_not_help():
    assert climb(Ladder(), ALL, 100, 600) == [
        (30, Step.UNLOAD), (60, Step.RESTART_RUNNER), (90, Step.RESTART_COMMAND), (120, Step.SHOUT),
    ]  # fmt: skip


def test_the_next_step_waits_until_it_was_seen_again_that_nothing_is_generated():
    assert climb(Ladder(), ALL, 100, 600, confirmed=False) == [(30, Step.UNLOAD)]


def test_with_nothing_allowed_it_is_told_at_once():
    assert climb(Ladder(), HelpSettings(), 100, 600) == [(0, Step.SHOUT)]


def test_a_trouble_that_comes_back_soon_is_met_with_the_next_step():
    ladder = Ladder()
    assert climb(ladder, ALL, 0, 35) == [(30, Step.UNLOAD)]
    assert ladder.step(40, None, ALL) is None
    assert climb(ladder, ALL, 100, 40) == [(30, Step.RESTART_RUNNER)]
    assert ladder.taken == (Step.UNLOAD, Step.RESTART_RUNNER)


def test_after_a_calm_the_ladder_is_begun_anew():
    ladder = Ladder()
    climb(ladder, ALL, 0, 35)
    ladder.step(40, None, ALL)
    ladder.step(40 + CALM, None, ALL)
    assert climb(ladder, ALL, 1000, 35) == [(30, Step.UNLOAD)]
