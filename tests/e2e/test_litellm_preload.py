"""Real LiteLLM, imported once and forked."""

import time

import psutil
import pytest

from load import Load, kill
from real import real

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def daemon():
    with real(proxy={"preload": "on", "standby": 1}) as daemon:
        daemon.start(seconds=300)
        daemon.until(lambda _: daemon.pids("standby"), 300)
        yield daemon


def parents(daemon):
    return {psutil.Process(pid).ppid() for pid in (*daemon.pids(), *daemon.pids("standby"))}


def test_workers_come_from_one_preloader(daemon):
    (preloader,) = parents(daemon)
    assert "--preload-fd" in psutil.Process(preloader).cmdline()
    assert psutil.Process(preloader).ppid() == daemon.process.pid
    assert psutil.Process(preloader).num_threads() == 1
    assert psutil.Process(preloader).net_connections() == []


def test_a_standby_shares_most_of_its_memory(daemon):
    (warm,) = daemon.pids("standby")
    own = psutil.Process(warm).memory_full_info().uss
    assert own <= 100 << 20 or own <= psutil.Process(warm).memory_info().rss / 3


def test_a_killed_worker_costs_its_own_requests_and_its_successor_is_forked_too(daemon):
    (victim,), (warm,) = daemon.pids(), daemon.pids("standby")
    with Load(daemon.port, rate=10, streams=2) as load:
        time.sleep(0.5)
        killed = kill(victim)
        daemon.until(lambda _: daemon.pids() == [warm] and daemon.pids("standby"), 120)
        time.sleep(0.5)
    assert [o for o in load.lost if not (o.trouble == "cut" and killed.hit(o))] == []
    assert len(parents(daemon)) == 1
    assert daemon.status()["workers"][0]["last_ending"]["status"] == -9


def test_a_killed_preloader_costs_nobody_anything(daemon):
    (preloader,) = parents(daemon)
    with Load(daemon.port, rate=10, streams=1) as load:
        psutil.Process(preloader).kill()
        daemon.until(lambda _: any(line["event"] == "preloader.ended" for line in daemon.log()))
        assert daemon.order("/restart", timeout=300)["result"] == "rolled"
        daemon.until(lambda s: s["status"] == "healthy" and daemon.pids("standby"), 300)
    assert load.lost == []
    assert parents(daemon).isdisjoint({preloader, daemon.process.pid})
