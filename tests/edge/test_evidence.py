"""What the whole daemon leaves for the person who comes the morning after; a stub in LiteLLM's place."""

import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ccproxy_supervisor.cli import main
from ccproxy_supervisor.edge.incidents import read
from daemon import Daemon

pytestmark = pytest.mark.once

QUICK = {"interval": "200ms", "timeout": "3s"}
#: The daemon with an impatient watchdog, and a signal that makes its event loop stick.
STICKY = """
import signal, sys, time
from ccproxy_supervisor.edge import watchdog
watchdog.TICK, watchdog.Watchdog.__init__.__defaults__ = 0.05, (0.05, 5)
def waits_for_a_dead_disk(*_): time.sleep(60)
signal.signal(signal.SIGURG, waits_for_a_dead_disk)
from ccproxy_supervisor.cli import main
main(["run", "--config", sys.argv[1]])
"""


@pytest.fixture
def daemon():
    with Daemon(health=QUICK) as daemon:
        yield daemon


#: The daemon with a bug that shows when its first worker is started.
BUGGY = """
import sys
from ccproxy_supervisor.supervisor import Supervisor
async def tells_a_secret(self): raise RuntimeError("cannot use sk-keep-me-to-yourself")
Supervisor.run = tells_a_secret
from ccproxy_supervisor.cli import main
main(["run", "--config", sys.argv[1]])
"""


def why(daemon):
    return CliRunner().invoke(main, ["why", "--config", str(daemon.home.settings_file)]).stdout


def test_a_death_nobody_asked_for_is_told_by_status_and_by_why(daemon):
    daemon.start()
    daemon.get("/print?line=last+words+of+a+worker")
    daemon.until(lambda _: "last words of a worker" in daemon.last_words())  # a thread writes the logs
    os.kill(daemon.pids()[0], signal.SIGKILL)
    line = daemon.until(lambda status: status["last_incident"])["last_incident"]

    assert "Worker 1 in slot 0 was killed by SIGKILL after " in line
    daemon.until(lambda status: status["status"] == "healthy")
    assert daemon.end() == 0
    told = why(daemon)
    assert "nobody here asked for it: the system (memory pressure) or a person did it" in told
    assert "  | last words of a worker" in told
    [incident] = read(daemon.home.run / "incidents", 10)
    assert [step["state"] for step in incident["timeline"]] == ["starting", "standby", "serving", "gone"]
    assert (incident["generation"], incident["slot"], incident["status"]) == (1, 0, -9)
    assert {probe["probe"] for probe in incident["probes"]} >= {"readiness"}
    assert incident["memory"][-1]["bytes"] > 1 << 20


def test_what_was_asked_for_leaves_no_incident(daemon):
    daemon.start()
    daemon.order("/restart")
    assert daemon.end() == 0

    assert read(daemon.home.run / "incidents", 10) == []


def test_a_crash_loop_is_not_forgotten_by_a_restart_of_the_supervisor(daemon):
    daemon.change(proxy={"env": {"STUB_FAIL": "3"}}, restart={"first_delay": "10ms", "longest_delay": "30s"})
    daemon.start(wait=None)
    before = daemon.until(lambda status: [w for w in status["workers"][:1] if w.get("restarts", 0) >= 3])["workers"][0]
    daemon.saved(lambda state: state["slots"]["0"]["restarts"] >= before["restarts"])
    daemon.process.kill()
    daemon.process.wait()
    daemon.start(wait=None)
    after = daemon.until(lambda status: status["workers"])["workers"][0]

    assert after["restarts"] >= before["restarts"] >= 3
    assert after["last_ending"]["status"] == 3
    assert "LiteLLM refused to start" in why(daemon)


def test_a_stuck_event_loop_ends_the_daemon_and_the_next_one_tells_where_it_stuck(daemon):
    with (daemon.folder / "said.txt").open("ab") as said:
        command = [sys.executable, "-c", STICKY, str(daemon.home.settings_file)]
        daemon.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    daemon.until(lambda status: status["status"] == "healthy")
    daemon.process.send_signal(signal.SIGURG)
    assert daemon.process.wait(60) == 70

    daemon.start()
    assert "event loop was stuck" in daemon.status()["last_incident"]
    assert daemon.end() == 0
    assert "waits_for_a_dead_disk" in why(daemon)


def test_a_bug_of_the_daemon_is_told_once_with_its_traceback(daemon):
    daemon.change(proxy={"env": {"SOME_API_KEY": "sk-keep-me-to-yourself"}})
    command = [sys.executable, "-c", BUGGY, str(daemon.home.settings_file)]
    assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 1
    daemon.start()
    assert daemon.end() == 0

    causes = [each["cause"] for each in read(daemon.home.run / "incidents", 10)]
    assert [cause for cause in causes if cause != "exited"] == ["crashed"]  # that was its worker
    assert "RuntimeError: cannot use ***" in why(daemon)
