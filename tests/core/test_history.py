"""The last day, bounded however much happens."""

from dataclasses import replace
from itertools import pairwise

import pytest

from ccproxy_supervisor.core.history import CHANGES, DAY, ENDINGS, Day, History
from ccproxy_supervisor.core.model import Cause, Ending, State, Transition

NOON = 1_795_435_200.0  # 2026-11-23 12:00 UTC


def states(runs):
    assert all(run["at"].endswith(".000Z") for run in runs)
    return [(run["at"][11:19], run["state"]) for run in runs]


def gone(number, cause, at, slot=0, status=0):
    ending = Ending(cause, 90.0, at, status)
    return Transition(number, slot, 1, State.SERVING, State.GONE, ending=ending), ending


def test_only_changes_are_kept_each_with_its_time():
    history = History()
    for seconds, word in ((0, "starting"), (5, "healthy"), (9, "healthy"), (60, "unhealthy"), (61, "healthy")):
        history.observe(NOON + seconds, word, {0: "serving" if word == "healthy" else "backoff"})
    document = history.document(NOON + 100)
    assert states(document["service"]) == [
        ("12:00:00", "starting"), ("12:00:05", "healthy"), ("12:01:00", "unhealthy"), ("12:01:01", "healthy"),
    ]  # fmt: skip
    assert [run["state"] for run in document["slots"]["0"]] == ["backoff", "serving", "backoff", "serving"]


def test_what_holds_since_before_yesterday_begins_with_the_day():
    history = History()
    history.observe(NOON, "starting", {})
    history.observe(NOON + 10, "healthy", {})
    assert states(history.document(NOON + 2 * DAY)["service"]) == [("12:00:00", "healthy")]
    history.observe(NOON + 2 * DAY, "degraded", {})
    assert states(history.document(NOON + 2 * DAY + 60)["service"]) == [
        ("12:01:00", "healthy"),
        ("12:00:00", "degraded"),
    ]


def test_nothing_has_happened_yet():
    assert History().document(NOON) == {"service": [], "slots": {}, "endings": []}


def test_a_slot_that_is_given_up_is_gone():
    history = History()
    history.observe(NOON, "healthy", {0: "serving", 1: "serving"})
    history.observe(NOON + 1, "healthy", {0: "serving"})
    assert [run["state"] for run in history.document(NOON + 2)["slots"]["1"]] == ["serving", "gone"]


def test_a_slot_that_was_given_up_a_day_ago_is_forgotten():
    history = History()
    history.observe(NOON, "healthy", {0: "serving", 1: "serving"})
    history.observe(NOON + 1, "healthy", {0: "serving"})
    history.observe(NOON + DAY, "healthy", {0: "serving"})
    assert list(history.document(NOON + DAY)["slots"]) == ["0", "1"]
    history.observe(NOON + DAY + 1, "healthy", {0: "serving"})
    assert list(history.document(NOON + DAY + 1)["slots"]) == ["0"]


def test_a_crash_loop_of_a_day_keeps_the_long_states_and_forgets_the_shortest():
    history = History()
    history.observe(NOON, "healthy", {})
    for moment in range(2000):
        history.observe(NOON + 3600 + moment * 30, "unhealthy", {})
        history.observe(NOON + 3600 + moment * 30 + 2, "healthy", {})
    history.observe(NOON + 70_000, "degraded", {})
    runs = history.document(NOON + 80_000)["service"]
    assert len(runs) <= CHANGES
    assert states(runs)[0] == ("12:00:00", "healthy")
    assert states(runs)[-1] == ("07:26:40", "degraded")
    assert all(one["state"] != other["state"] for one, other in pairwise(runs))


def test_a_clock_set_back_does_not_turn_the_day_around():
    history = History()
    history.observe(NOON, "healthy", {})
    history.observe(NOON - 3600, "degraded", {})
    assert states(history.document(NOON + 1)["service"]) == [("12:00:00", "healthy"), ("12:00:00", "degraded")]


def test_endings_are_told_in_words_for_a_day_and_not_too_many():
    history = History()
    history.ended(*gone(1, Cause.EXITED, NOON - DAY - 1))
    history.ended(*gone(2, Cause.EXITED, NOON - 60, status=-9))
    history.ended(*gone(3, Cause.UPGRADE, NOON - 30, slot=None))
    told = [(each["planned"], each["told"]) for each in history.document(NOON)["endings"]]
    assert told == [
        (False, "Worker 2 in slot 0 was killed by SIGKILL after 1 min 30 s."),
        (True, "Worker 3 on standby was replaced by an upgrade after 1 min 30 s."),
    ]
    for number in range(300):
        history.ended(*gone(number, Cause.EXITED, NOON))
    assert len(history.document(NOON)["endings"]) == ENDINGS


def test_only_the_newest_unplanned_endings_keep_last_words_and_not_all_of_them():
    history = History()
    for number in range(9):
        moved, ending = gone(number, Cause.EXITED if number % 4 else Cause.RELOAD, NOON)
        history.ended(moved, replace(ending, output=tuple(f"{line} {'x' * 500}" for line in range(20))))
    kept = {each["worker"]: each["output"] for each in history.document(NOON)["endings"] if "output" in each}
    assert list(kept) == [2, 3, 5, 6, 7]
    assert [line[:3] for line in kept[7]] == ["12 ", "13 ", "14 ", "15 ", "16 ", "17 ", "18 ", "19 "]
    assert {len(line) for line in kept[7]} == {300}


def yesterday():
    history = History()
    history.observe(NOON, "starting", {0: "starting"})
    history.observe(NOON + 5, "healthy", {0: "serving"})
    history.ended(*gone(1, Cause.EXITED, NOON + 9))
    return history


def test_a_day_goes_on_where_it_was_saved():
    history = History(yesterday().saved(NOON + 60), NOON + 61)
    history.observe(NOON + 61, "starting", {0: "starting"})
    document = history.document(NOON + 62)
    assert states(document["service"]) == [
        ("12:00:00", "starting"), ("12:00:05", "healthy"), ("12:01:00", "unknown"), ("12:01:01", "starting"),
    ]  # fmt: skip
    assert [run["state"] for run in document["slots"]["0"]] == ["starting", "serving", "unknown", "starting"]
    assert [each["worker"] for each in document["endings"]] == [1]


def test_after_a_stop_all_was_down_until_the_next_start():
    history = yesterday()
    history.observe(NOON + 50, "stopping", {0: "draining"})
    history.observe(NOON + 59, "stopping", {})
    document = History(history.saved(NOON + 60), NOON + 61).document(NOON + 61)
    assert states(document["service"])[-2:] == [("12:00:50", "stopping"), ("12:01:00", "down")]
    assert [run["state"] for run in document["slots"]["0"]][-2:] == ["draining", "gone"]


@pytest.mark.parametrize(("last", "since"), [("healthy", "unknown"), ("unhealthy", "unknown"), ("stopping", "down")])
def test_days_without_us_were_not_healthy(last, since):
    history = yesterday()
    history.observe(NOON + 30, last, {0: "serving"})
    history = History(history.saved(NOON + 60), NOON + 3 * DAY)
    document = history.document(NOON + 3 * DAY)
    assert states(document["service"])[-1] == ("12:00:00", since)
    assert states(document["slots"]["0"])[-1] == ("12:00:00", since)
    assert document["endings"] == []


def test_a_slot_that_was_given_up_stays_so_over_a_restart():
    history = yesterday()
    history.observe(NOON + 30, "healthy", {})
    later = History(history.saved(NOON + 60), NOON + 90)
    assert states(later.document(NOON + 90)["slots"]["0"])[-1] == ("12:00:30", "gone")


def test_what_a_clock_set_back_makes_the_future_is_not_believed():
    assert History(yesterday().saved(NOON + 60), NOON - DAY).saved(0.0) == Day(0.0, (), {0: ()}, ())
