"""Numbers of what went through: added up, and what is read from them."""

import pytest

from ccproxy_supervisor.core import traffic
from ccproxy_supervisor.core.traffic import Key, Recent, document, final, grown, named, period, quantile

CHAT = Key("llama", "chat", "eva")


def test_a_quantile_lies_within_its_bucket_in_proportion():
    numbers = {"first_token 0.1": 10, "first_token 0.2": 80, "first_token 0.5": 10, "first_token sum": 17_000_000}
    assert quantile(numbers, "first_token", 0.5) == pytest.approx(0.15)
    assert quantile(numbers, "first_token", 0.95) == pytest.approx(0.35)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_of_nothing_there_is_no_quantile_and_beyond_the_last_bound_it_is_that(share):
    assert quantile({"duration 1": 3}, "first_token", share) is None
    assert quantile({"first_token 600": 0, "first_token inf": 3}, "first_token", share) == 600


def test_bounds_of_another_version_are_read_as_well():
    assert quantile({"queued 0.3": 2, "queued 0.1": 2}, "queued", 0.5) == pytest.approx(0.1)


def test_what_was_in_flight_is_lost_with_its_worker():
    assert final({"in_flight": 2, "ok": 3}) == {"ok": 3, "lost": 2}
    assert final({"in_flight": 0, "ok": 3}) == {"ok": 3}
    assert final({"in_flight": (1 << 64) - 1}) == {}, "one less than none: it was killed between two steps"


def test_growth_is_what_came_and_never_less_than_nothing():
    assert grown({"ok": 5, "lost": 1, "in_flight": 7}, {"ok": 3, "input": 9}) == {"ok": 2, "lost": 1}


def test_clients_are_told_apart_up_to_a_number_and_who_was_known_stays_so():
    known = {f"c{n}" for n in range(traffic.CLIENTS - 1)}
    assert named(CHAT, known) == CHAT
    assert named(CHAT._replace(client="late"), known).client == "other"
    assert named(CHAT, known) == CHAT


def test_a_period_is_told_in_a_persons_words():
    told = period({"ok": 8, "broken": 1, "lost": 1, "aborted": 2, "spoken": 90, "speaking": 3_000_000, "output": 100})
    assert (told["requests"], told["errors"], told["aborted"], told["output"]) == (12, 2, 2, 100)
    assert told["tokens_per_second"] == 30
    assert period({})["tokens_per_second"] is None


def test_the_last_hour_and_the_last_day_are_told_of_each_model_and_client():
    recent, now = Recent(), 1_000_000.0
    for hours, count in ((30, 1000), (23, 100), (0.5, 10)):
        recent.enter(now - hours * 3600, {CHAT: {"ok": count}})
    told = document(recent, {CHAT: {"ok": 1}}, {CHAT: {"in_flight": 2}}, now)
    (model,), (client,) = told["models"], told["clients"]
    assert (model["name"], model["in_flight"], told["in_flight"]) == ("llama", 2, 2)
    assert (model["hour"]["requests"], model["day"]["requests"]) == (11, 111)
    assert (client["name"], client["hour"]["requests"], client["day"]["requests"]) == ("eva", 11, 111)


def test_what_was_told_before_is_not_added_to_by_being_told():
    recent = Recent()
    recent.enter(0.0, {CHAT: {"ok": 1}})
    for _ in range(2):
        assert document(recent, {CHAT: {"ok": 1}}, {}, 10.0)["models"][0]["day"]["requests"] == 2


def test_a_day_of_traffic_is_kept_in_little():
    recent = Recent()
    for minute in range(3 * 24 * 60):
        recent.enter(minute * 60.0, {CHAT: {"ok": 1}})
    assert len(recent._slots) <= traffic.DAY / traffic.SLOT + 1
