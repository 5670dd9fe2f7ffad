"""A worker that is merely busy, under the settings that are shipped: whoever helps out, it is never replaced."""

import threading
import time

import httpx
import pytest

from daemon import Daemon
from steady import Steady

pytestmark = pytest.mark.once


@pytest.fixture(params=[0, 1], ids=["alone", "with a standby"])
def daemon(request):
    with Daemon(proxy={"standby": request.param}) as daemon:
        daemon.settings.pop("health")
        daemon.change()
        yield daemon


def settled(daemon):
    standby = daemon.settings["proxy"]["standby"]
    return daemon.until(lambda s: s["status"] == "healthy" and len(daemon.pids("standby")) == standby)


@pytest.mark.parametrize("busy", ["/block?seconds=3", "/burn?seconds=10"])
def test_a_busy_worker_is_not_replaced_and_nobody_is_lost(daemon, busy):
    daemon.start()
    settled(daemon)
    (before,) = daemon.pids()
    seconds = float(busy.partition("=")[2])
    with Steady(daemon.port) as clients:
        ask = threading.Thread(target=httpx.get, args=(daemon.url + busy,), kwargs={"timeout": 60})
        ask.start()
        time.sleep(seconds + 6)  # what was begun against it has had its time
        ask.join()
    status = settled(daemon)

    assert clients.lost == []
    assert daemon.pids() == [before]
    assert (status["workers"][0]["restarts"], status["workers"][0]["last_ending"]) == (0, None)
    events = {line["event"] for line in daemon.log()}
    assert not events & {"worker.unresponsive", "worker.killed", "worker.lost"}
