"""A supervisor is killed at every step of an adoption and of a renewal; a stub in LiteLLM's place."""

import signal

import psutil
import pytest

from daemon import LONG, Daemon, enough, follow
from steady import Steady

pytestmark = pytest.mark.once

QUICK = {"interval": "200ms", "timeout": "3s"}
#: The daemon that dies before or after it does something, as its first image or as the one that follows in its process.
MORTAL = """
import functools, importlib, inspect, json, os, signal, sys
image, when, what = os.environ["MORTAL"].split()
came = json.loads(os.environ.get("CCPROXY_RENEWAL", "{}"))
def die(): os.kill(os.getpid(), signal.SIGKILL)
if image == ("second" if came and not came["undone"] else "first"):
    module, _, path = what.partition(":")
    owner = importlib.import_module("ccproxy_supervisor." + module)
    *way, name = path.split(".")
    for each in way: owner = getattr(owner, each)
    true = getattr(owner, name)
    async def later(*words, **more):
        if when == "before": die()
        await true(*words, **more)
        die()
    def now(*words, **more):
        if when == "before": die()
        true(*words, **more)
        die()
    setattr(owner, name, later if inspect.iscoroutinefunction(true) else now)
from ccproxy_supervisor.edge import adoption
adoption.PATIENCE = 30  # a busy machine is no fault of anybody here
from ccproxy_supervisor.cli import main
main()
"""
ADOPTION = [
    "first after edge.ownership:Ownership.take",
    "first before edge.adoption:_heard",
    "first after edge.adoption:_heard",
    "first before edge.adoption:Found.agree",
    "first after edge.adoption:Found.agree",
    "first before edge.logs.sink:LogSink.adopt_capture",
    "first after edge.logs.sink:LogSink.adopt_capture",
    "first after adopter:Adopter._adopt",
    "first after recovery:Recovery.find",
    "first after recovery:Recovery.public_socket",
    "first before pool:Pool.fill",
    "first before worker:Worker.live",
    "first after pool:Pool.fill",
]
RENEWAL = [
    "first after renewer:Renewer.prove",
    "first after renewer:Renewer.order",
    "first after supervisor:Supervisor.leave",
    "first before renewer:Renewer.leave",
    "first after renewer:Renewer.leave",
    "first before edge.logs.sink:LogSink.leave",
    "first after edge.logs.sink:LogSink.leave",
    "first after edge.renewal.back:_leave_mark",
    "first before edge.renewal.back:become",
    "second after edge.ownership:Ownership.take",
    "second after edge.adoption:_heard",
    "second before edge.adoption:Found.agree",
    "second after edge.adoption:Found.agree",
    "second after recovery:Recovery.public_socket",
    "second before pool:Pool.fill",
    "second after pool:Pool.fill",
    "second before renewer:settle",
    "second after renewer:settle",
]


@pytest.fixture
def daemon(tmp_path):
    with Daemon(health=QUICK, proxy={"drain_timeout": "30s", "standby": 1, "orphan_grace": "300s"}) as daemon:
        (tmp_path / "mortal.py").write_text(MORTAL)
        daemon.program = [str(tmp_path / "mortal.py")]
        yield daemon


def whole(status):
    return sorted(worker["state"] for worker in status["workers"]) == ["serving", "standby"]


@pytest.mark.parametrize("steps", [ADOPTION[::2], ADOPTION[1::2], RENEWAL[::2], RENEWAL[1::2]])
def test_killed_at_every_step_its_workers_serve_on_and_nothing_is_lost(daemon, steps, monkeypatch):
    never = "third before app:run"
    monkeypatch.setenv("MORTAL", never)
    daemon.start(wait=None)
    daemon.until(whole)
    before, lines = {*daemon.pids(), *daemon.pids("standby")}, []
    reader = follow(daemon, lines, 10 * LONG)
    with Steady(daemon.port) as steady:
        daemon.process.kill()
        daemon.process.wait()
        for step in steps:
            monkeypatch.setenv("MORTAL", step)
            daemon.start(wait=None)
            if step in RENEWAL:
                daemon.until(whole, 120)
                daemon.process.send_signal(signal.SIGUSR2)
            assert daemon.process.wait(120) == -signal.SIGKILL, step
        monkeypatch.setenv("MORTAL", never)
        daemon.start(wait=None)
        status = daemon.until(whole, 120)
    enough(daemon)
    reader.join()

    assert lines[-1] == "data: [DONE]"
    assert {worker["pid"] for worker in status["workers"]} == before, daemon.last_words()
    assert [psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in before] == [False, False]
    assert daemon.end() == 0
    assert steady.lost == []
    printed = (daemon.folder / "logs" / "stdout.log").read_text().splitlines()
    assert printed == [f"number {number:06d}" for number in range(steady.said)]
    assert daemon.workers() == []
    left = [path.name for path in daemon.home.run.iterdir() if path.name.endswith((".sock", ".spool", "renewal.json"))]
    assert left == []
