"""Real LiteLLM with a warm standby: what a lost worker costs its clients."""

import os
import signal
import threading
import time

import httpx
import pytest

from load import Load, kill, question

pytestmark = pytest.mark.real
SETTINGS = {"proxy": {"standby": 1}}


def restarts(daemon):
    return daemon.status()["workers"][0]["restarts"]


def test_a_standby_serves_at_once_when_the_worker_is_killed(daemon):
    (victim,), (warm,) = daemon.pids(), daemon.pids("standby")
    with Load(daemon.port, rate=10, streams=2) as load:
        time.sleep(1)
        killed = kill(victim)
        daemon.until(lambda _: daemon.pids() == [warm])
        daemon.until(lambda _: sum(o.began > killed.after for o in load.outcomes) >= 8)

    assert [o for o in load.lost if not (o.trouble == "cut" and killed.hit(o))] == []
    status = daemon.until(lambda s: "standby" in [w["state"] for w in s["workers"]], 300)
    assert status["workers"][0]["last_ending"]["status"] == -9
    assert "ccproxy_failover_seconds_count 1.0" in daemon.metrics()


def block(daemon):
    """Stop the event loop of who serves; an answer never comes."""
    with pytest.raises(httpx.TransportError):
        httpx.post(daemon.url + "/v1/messages", json=question("block 60", model="actor"), timeout=60)


@pytest.mark.parametrize("trouble", ["stopped", "blocked"])
def test_a_worker_that_hangs_is_replaced_by_the_standby(daemon, trouble):
    (hung,), (warm,), before = daemon.pids(), daemon.pids("standby"), restarts(daemon)
    with Load(daemon.port, rate=10) as load:
        time.sleep(0.5)
        if trouble == "stopped":
            os.kill(hung, signal.SIGSTOP)
        else:
            threading.Thread(target=block, args=[daemon]).start()
            daemon.until(lambda _: (daemon.folder / "blocked").exists())
        struck = time.monotonic()
        daemon.until(lambda _: daemon.pids() == [warm])
        time.sleep(0.5)

    assert [o.trouble for o in load.lost if o.trouble != "cut"] == []
    assert [o for o in load.lost if o.began > struck] == []
    ended = daemon.until(lambda s: (s["workers"][0].get("last_ending") or {}).get("cause") == "unresponsive")
    assert ended["workers"][0]["restarts"] == before + 1
