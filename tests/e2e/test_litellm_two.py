"""Two workers of real LiteLLM on one socket."""

import time

import pytest

from load import Load, kill
from real import typed

pytestmark = pytest.mark.real
SETTINGS = {"proxy": {"workers": 2}}


def served(daemon):
    """Who has answered a client so far."""
    return {line["worker"] for line in daemon.log("litellm") if line["logger"] == "uvicorn.access"}


def test_both_serve(daemon):
    with Load(daemon.port, rate=40) as load:  # while requests do not overlap, one worker may be given all of them
        daemon.until(lambda _: len(served(daemon)) == 2)

    assert load.lost == []


def test_the_other_one_goes_on_when_one_is_killed(daemon):
    victim, other = daemon.pids()
    with Load(daemon.port, rate=10, streams=2) as load:
        time.sleep(1)
        killed = kill(victim)
        degraded = daemon.until(lambda s: s["status"] == "degraded")
        daemon.until(lambda s: s["status"] == "healthy", 300)

    assert [w["pid"] for w in degraded["workers"] if w["state"] == "serving"] == [other]
    assert [o for o in load.lost if not (o.trouble == "cut" and killed.hit(o))] == []


def test_a_restart_replaces_both_and_loses_nothing(daemon):
    before = set(daemon.pids())
    with Load(daemon.port, rate=10, streams=4) as load:
        restart = typed(daemon, "restart")
        time.sleep(0.5)

    assert (restart.returncode, restart.stdout.split(":")[0]) == (0, "rolled")
    assert load.lost == []
    assert len(set(daemon.pids()) - before) == 2
