"""Real LiteLLM that answers its probes but not its users."""

import contextlib
import threading

import httpx
import pytest

from load import question
from real import typed

pytestmark = pytest.mark.real
SETTINGS = {
    "proxy": {"standby": 1, "drain_timeout": "5s"},
    "health": {"interval": "3s", "timeout": "10s", "failures": 6, "stalled": "8s"},
}


def asked(daemon, content, model="echo", timeout=300.0):
    answer = httpx.post(daemon.url + "/v1/messages", json=question(content, model=model), timeout=timeout)
    return answer.json()["content"][0]["text"]


def wait_in_vain(daemon):
    with contextlib.suppress(httpx.TransportError):
        answer = httpx.post(daemon.url + "/v1/messages", json=question("anybody?"), timeout=300)
        assert answer.status_code >= 500


def doubts(daemon):
    return [line for line in daemon.log() if line["event"].startswith("doubt.")]


def replaced(daemon, warm, why):
    """Wait until the standby serves, and the old one has ended for that reason."""
    daemon.until(lambda _: daemon.pids() == [warm], 180)
    last = lambda status: status["workers"][0].get("last_ending") or {"detail": ""}  # noqa: E731
    ended = daemon.until(lambda status: last(status)["detail"].startswith(why), 60)
    assert last(ended)["cause"] == "unresponsive"


def test_a_worker_in_which_every_completion_hangs_is_replaced_by_the_standby(daemon):
    (hung,), (warm,), restarts = daemon.pids(), daemon.pids("standby"), daemon.status()["workers"][0]["restarts"]
    asked(daemon, "hang", model="actor")
    lost = threading.Thread(target=wait_in_vain, args=[daemon])
    lost.start()

    replaced(daemon, warm, "no completion in it has gone on for ")
    lost.join()
    assert [line["event"] for line in doubts(daemon)] == ["doubt.raised", "doubt.confirmed"]
    assert asked(daemon, "and now?") == "You said: and now?"
    assert daemon.status()["workers"][0]["restarts"] == restarts + 1
    assert "no completion in it" in typed(daemon, "why").stdout
    assert hung != warm


def test_a_worker_that_accepts_nobody_is_replaced_and_who_knocked_is_answered(daemon):
    (_,), (warm,) = daemon.pids(), daemon.pids("standby")
    asked(daemon, "shut", model="actor")

    assert asked(daemon, "anybody?") == "You said: anybody?"
    replaced(daemon, warm, "connections wait and it has taken none for ")


def test_a_slow_model_is_left_alone(daemon):
    daemon.order("/restart")  # whoever serves was acquitted of nothing yet
    daemon.until(lambda status: status["status"] == "healthy" and daemon.pids("standby"), 120)
    before, known = daemon.pids(), len(doubts(daemon))
    assert asked(daemon, "pause 20", model="actor") == "done: pause"

    daemon.until(lambda _: len(doubts(daemon)) == known + 2)
    assert [line["event"] for line in doubts(daemon)[known:]] == ["doubt.raised", "doubt.dismissed"]
    assert daemon.pids() == before
