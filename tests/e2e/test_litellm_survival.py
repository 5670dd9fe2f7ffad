"""The supervisor of real LiteLLM is killed, and renewed, under load."""

import pytest

from load import Load
from real import real, typed

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def daemon():
    with real(proxy={"preload": "on", "standby": 1}) as daemon:
        daemon.start(seconds=300)
        daemon.until(lambda _: daemon.pids("standby"), 300)
        yield daemon


def workers(daemon):
    return {*daemon.pids(), *daemon.pids("standby")}


def test_a_few_kills_lose_nothing_and_every_worker_is_taken_on(daemon):
    before = workers(daemon)
    with Load(daemon.port, rate=4, streams=2) as load:
        for _ in range(3):
            daemon.process.kill()
            daemon.process.wait()
            daemon.start(wait=None)
            daemon.until(lambda s: s["supervisor"]["ready"], 60)
    assert load.lost == []
    assert load.streamed >= 2
    assert workers(daemon) == before
    assert daemon.status()["supervisor"]["adopted"] == 2


def test_renewed_as_a_person_does_it_loses_nothing_and_keeps_pid_and_workers(daemon):
    before, pid = workers(daemon), daemon.process.pid
    with Load(daemon.port, rate=4, streams=2) as load:
        said = typed(daemon, "renew")
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.startswith("renewed: adopted 2 workers in ")
    assert load.lost == []
    assert (daemon.status()["pid"], workers(daemon)) == (pid, before)
