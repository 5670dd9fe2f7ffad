"""Real LiteLLM in one worker without a standby: what a replacement, planned or not, costs its clients."""

import signal
import time

import httpx
import psutil
import pytest

from daemon import gone, wait_until_gone
from load import Load, kill, question
from real import shipped

pytestmark = pytest.mark.real


def new_worker(daemon, old):
    return daemon.until(lambda s: s["status"] == "healthy" and daemon.pids() not in ([], [old]), 300)


def test_a_killed_worker_takes_along_only_what_was_inside_it(daemon):
    (victim,) = daemon.pids()
    with Load(daemon.port, rate=10, streams=2) as load:
        time.sleep(1)
        killed = kill(victim)
        status = new_worker(daemon, victim)

    assert [o.trouble for o in load.lost if o.trouble != "cut"] == []
    assert [o for o in load.lost if not killed.hit(o)] == []
    assert len(load.lost) >= 2, "the streams were inside"
    assert status["workers"][0]["last_ending"]["status"] == -9


def test_a_reload_replaces_the_worker_and_loses_nothing(daemon):
    (old,) = daemon.pids()
    generation = daemon.status()["generation"]
    daemon.write("config.yaml", shipped(router_settings={"num_retries": 1}))
    with Load(daemon.port, streams=4) as load:
        report = daemon.order("/reload")
        time.sleep(0.5)

    assert (report["result"], report["generation"]) == ("rolled", generation + 1)
    assert report["changes"] == [f"{daemon.folder}/config.yaml changed"]
    assert load.lost == []
    assert load.streamed >= 4
    assert daemon.pids() != [old]
    wait_until_gone(old)


def test_a_config_that_only_litellm_refuses_leaves_the_old_worker_serving(daemon):
    before, generation = daemon.pids(), daemon.status()["generation"]
    good = (daemon.folder / "config.yaml").read_text()
    daemon.write("config.yaml", shipped(litellm_settings={"callbacks": ["nowhere.to_be_found"]}))
    with Load(daemon.port, rate=10, streams=1) as load:
        report = daemon.order("/reload")
    daemon.write("config.yaml", good)

    assert report["result"] == "failed"
    assert "status 3): ImportError: Could not import to_be_found from nowhere" in report["detail"]
    assert f"keeping generation {generation}" in report["detail"]
    assert load.lost == []
    assert daemon.pids() == before
    assert "ccproxy_config_last_reload_successful 0.0" in daemon.metrics()
    assert daemon.status()["reload"]["result"] == "failed"


def test_a_worker_that_outgrows_its_limit_is_replaced_and_loses_nothing(daemon):
    (fat,), restarts = daemon.pids(), daemon.status()["workers"][0]["restarts"]
    limit = (psutil.Process(fat).memory_info().rss >> 20) + 200
    daemon.change(proxy={"max_memory": f"{limit}MiB"})
    applied = daemon.order("/reload")
    with Load(daemon.port, rate=10, streams=2) as load:
        httpx.post(daemon.url + "/v1/messages", json=question("grow 400", model="actor"), timeout=60)
        new_worker(daemon, fat)
        wait_until_gone(fat, 60)
    daemon.change(proxy={"max_memory": None})
    daemon.order("/reload")

    assert applied["result"] == "applied"
    assert load.lost == []
    assert 'ccproxy_worker_endings_total{cause="memory"} 1.0' in daemon.metrics()
    assert daemon.status()["workers"][0]["restarts"] == restarts


def test_nobody_notices_a_killed_supervisor_and_the_next_one_goes_on_with_its_worker(daemon):
    (worker,), (before,) = daemon.pids(), daemon.status()["workers"]
    with Load(daemon.port, rate=10, streams=2) as load:
        daemon.process.kill()
        daemon.process.wait()
        daemon.start(wait=None)
        after = daemon.until(lambda status: status["status"] == "healthy" and status["workers"])["workers"][0]
        load.end()
    assert load.lost == []
    assert load.streamed >= 2
    assert daemon.pids() == [worker]
    assert after["adopted"]
    assert [after[key] for key in ("slot", "generation", "restarts")] == [
        before[key] for key in ("slot", "generation", "restarts")
    ]


def test_sigterm_ends_the_daemon_when_the_streams_have_ended(daemon):
    (worker,) = daemon.pids()
    with Load(daemon.port, rate=0, streams=2) as load:
        load.end()
        daemon.process.send_signal(signal.SIGTERM)

    assert (load.lost, load.streamed) == ([], 2)
    assert daemon.process.wait(30) == 0
    assert gone(worker)
    assert "worker.gone" in [line["event"] for line in daemon.log() if line.get("cause") == "stop"]
