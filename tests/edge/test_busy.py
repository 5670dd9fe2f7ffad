"""A worker that is merely busy, under the settings that are shipped: whoever helps out, it is never replaced."""

import pytest

from ccproxy_supervisor.core.settings import Settings
from daemon import Daemon
from scraped import parsed
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


def probes(daemon):
    return parsed(daemon.metrics())["ccproxy_probe_seconds_count{probe=liveness}"]


@pytest.mark.parametrize("busy", ["/block?seconds=3", "/burn?seconds=10"])
def test_a_busy_worker_is_not_replaced_and_nobody_is_lost(daemon, busy):
    daemon.start()
    settled(daemon)
    (before,) = daemon.pids()
    with Steady(daemon.port) as clients:
        assert daemon.get(busy, timeout=60).status_code == 200
        enough = (
            probes(daemon) + 2 * Settings().health.failures
        )  # what was held against it is refuted, or has its verdict
        daemon.until(lambda _: probes(daemon) >= enough, 120)
    status = settled(daemon)

    assert clients.lost == []
    assert daemon.pids() == [before]
    assert (status["workers"][0]["restarts"], status["workers"][0]["last_ending"]) == (0, None)
