from types import SimpleNamespace

import pytest

from ccproxy_supervisor.core.model import MOVES, Cause, State
from ccproxy_supervisor.core.policy import Record, Streak, backoff, outgrown, patience

P = SimpleNamespace(first_delay=1.0, factor=2.0, longest_delay=30.0, jitter=0.5, stable_after=60.0)


@pytest.mark.parametrize(
    ("before", "well", "draw", "delay", "after"),
    [
        (Record(), 1, 0.5, 1, Record(1, 1)),
        (Record(), 1, 0.0, 0.5, Record(1, 1)),
        (Record(), 1, 0.999, 1.499, Record(1, 1)),
        (Record(3, 4), 1, 0.5, 8, Record(4, 8)),
        (Record(4, 16), 1, 0.5, 30, Record(5, 30)),
        (Record(4, 16), 1, 0.999, 30, Record(5, 30)),
        (Record(4, 16), 1, 0.0, 15, Record(5, 30)),
        (Record(99, 30), 59.9, 0.5, 30, Record(100, 30)),
        (Record(99, 30), 60, 0.5, 1, Record(1, 1)),
    ],
)
def test_backoff(before, well, draw, delay, after):
    assert backoff(P, before, well, draw) == (delay, after)


def test_a_year_of_failing_does_not_overflow():
    policy, record = SimpleNamespace(**{**vars(P), "factor": 1e9}), Record()
    for _ in range(10_000):
        delay, record = backoff(policy, record, 0.0, 0.5)
    assert delay == 30.0


def test_a_first_delay_of_zero_stays_zero():
    policy, record = SimpleNamespace(**{**vars(P), "first_delay": 0.0}), Record()
    for _ in range(5):
        delay, record = backoff(policy, record, 0.0, 0.9)
        assert delay == 0.0


@pytest.mark.parametrize(
    ("interval", "timeout", "waits"), [(5, 3, 3), (1, 3, 1), (2, 3, 2), (0.2, 3, 1), (0.2, 0.3, 0.3)]
)
def test_a_sign_of_life_is_waited_for_until_the_next_is_due_but_for_a_second_at_least(interval, timeout, waits):
    assert patience(interval, timeout) == waits


def test_streaks_count_equal_answers_in_a_row():
    assert Streak().after(True).after(True) == Streak(good=2)
    assert Streak().after(False).after(False).after(True) == Streak(good=1)
    assert Streak(good=5).after(False) == Streak(bad=1)


@pytest.mark.parametrize(
    ("uptime", "memory", "max_age", "max_memory", "cause"),
    [
        (100, 100, None, None, None),
        (100, 100, 100, 100, None),
        (101, 100, 100, 100, Cause.AGE),
        (100, 101, 100, 100, Cause.MEMORY),
        (101, 101, 100, 100, Cause.MEMORY),
    ],
)
def test_outgrown(uptime, memory, max_age, max_memory, cause):
    assert outgrown(uptime, memory, max_age, max_memory) is cause


def test_every_state_has_its_moves_and_every_life_can_end():
    assert set(MOVES) == {None, *State} - {State.BACKOFF}  # which is a place's
    for state in MOVES:
        reached, before = {state}, set()
        while reached != before:
            before = set(reached)
            reached |= {new for old in before for new in MOVES[old]}
        assert State.GONE in reached


def test_a_cause_is_planned_or_a_failure():
    failures = {Cause.EXITED, Cause.SPAWN_FAILED, Cause.START_TIMEOUT, Cause.UNRESPONSIVE}
    assert {cause for cause in Cause if not cause.planned} == failures
