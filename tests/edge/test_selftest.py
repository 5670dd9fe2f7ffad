"""The self-test: its steps, its job under a launchd that behaves like one, and a report that gives nobody away."""

import getpass
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import fake_launchctl
from ccproxy_supervisor.cli import main
from ccproxy_supervisor.deploy.program import LATE, Ran, run
from ccproxy_supervisor.deploy.service import Hands
from ccproxy_supervisor.edge.home import Home
from ccproxy_supervisor.edge.preload import FORKS_LIVE
from ccproxy_supervisor.selftest import job, mac, processes, report, sockets
from ccproxy_supervisor.selftest import run as whole
from ccproxy_supervisor.selftest.step import Outcome, Result, Step, alone, fails, holds, unknown
from ccproxy_supervisor.selftest.steps import STEPS

pytestmark = pytest.mark.once

SLOW = {"timers", "speed", "processor-timer"}  # judged by time, which a busy machine has none of


@pytest.fixture
def launchd(tmp_path, monkeypatch):
    variables = fake_launchctl.put_on_path(tmp_path / "launchd")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield tmp_path / "launchd/state"
    fake_launchctl.shut_down(variables)


def hands():
    return Hands(run, lambda _: None, lambda _: None, sleep=lambda _: time.sleep(0.02))


@pytest.mark.parametrize(
    "step", [each for each in STEPS if not each.mac and each.name not in SLOW], ids=lambda step: step.name
)
def test_what_the_daemon_takes_for_granted_is_so_here(step):
    assert alone(step, run).verdict in (Outcome.HOLDS, Outcome.NOTED), alone(step, run)


@pytest.mark.parametrize(
    ("ran", "verdict", "said"),
    [
        (Ran(LATE), Outcome.FAILS, "no result within 20 s"),
        (Ran(-signal.SIGSEGV), Outcome.FAILS, "the step was ended by SIGSEGV"),
        (Ran(1, "", "Traceback\nOSError: no"), Outcome.UNKNOWN, "the step broke: OSError: no"),
        (Ran(0, "nonsense"), Outcome.UNKNOWN, "the step broke: nonsense"),
        (Ran(0, 'noise\n{"verdict": "holds", "said": "x"}\n'), Outcome.HOLDS, "x"),
    ],
)
def test_a_step_that_hangs_crashes_or_raises_is_a_result(ran, verdict, said):
    assert alone(STEPS[0], lambda *_, timeout: ran) == Result(verdict, said)


def test_what_only_a_mac_has_is_skipped_elsewhere_and_asked_there():
    step = next(step for step in STEPS if step.mac)
    asked = Ran(0, '{"verdict": "holds", "said": ""}')
    assert alone(step, lambda *_, timeout: asked, "linux").verdict is Outcome.SKIPPED
    assert alone(step, lambda *_, timeout: asked, "darwin").verdict is Outcome.HOLDS


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # pytest has threads; the step's process has none
def test_a_fork_that_dies_is_told_by_its_signal(monkeypatch):
    me = os.getpid()
    monkeypatch.setattr(
        processes, "_use_the_network", lambda: os.getpid() == me or os.kill(os.getpid(), signal.SIGKILL)
    )
    monkeypatch.setattr(processes, "FORKS", 1)
    assert processes.fork() == fails("1 of 1 forks died: SIGKILL")


def test_a_small_backlog_is_told(monkeypatch):
    def small(host, port):
        listener = socket.create_server((host, port), backlog=5)
        return listener

    monkeypatch.setattr(sockets, "open_listener", small)
    assert sockets.backlog().verdict is Outcome.FAILS


# What only macOS has, by what its programs are known to say


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (("silent", "reached", "silent"), Outcome.HOLDS),
        (("denied", "denied", "denied"), Outcome.FAILS),
        (("silent", "silent", "silent"), Outcome.UNKNOWN),
    ],
)
def test_a_job_that_macos_keeps_from_the_local_network_is_found(monkeypatch, outcomes, verdict):
    left = list(outcomes)
    monkeypatch.setattr(mac, "_reached", lambda host, port: left.pop(0))
    found = mac.lan(lambda *_: Ran(0, "   route to: default\n    gateway: 192.168.1.1\n"))
    assert found.verdict is verdict
    assert "192" not in found.said


def test_reached_is_who_answers_or_refuses_and_denied_who_has_no_route(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert mac._reached("127.0.0.1", port) == "reached"
    assert mac._reached("127.0.0.1", port) == "reached"  # refused: the host is there

    def no_route(*_, **__):
        raise OSError(mac.errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(mac.socket, "create_connection", no_route)
    assert mac._reached("127.0.0.1", port) == "denied"


def test_filevault_login_and_background_items_are_told_without_names():
    says = {"fdesetup": Ran(0, "FileVault is On."), "defaults": Ran(0, "alice")}
    assert mac.vault(lambda *words: says[words[0]]).said == "FileVault is on, automatic login is set"
    listed = 'disabled services = {\n\t\t"com.visiquate.ccproxy" => disabled\n}'
    assert mac.background(lambda *_: Ran(0, listed)).verdict is Outcome.FAILS
    assert mac.background(lambda *_: Ran(0, listed.replace("disabled\n", "enabled\n"))).verdict is Outcome.HOLDS
    assert mac.background(lambda *_: Ran(127)).verdict is Outcome.UNKNOWN


# The job


def test_a_job_of_launchd_runs_every_step_answers_at_its_socket_and_leaves_nothing(launchd, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    found = job.look_into(folder, hands(), {})

    assert {name: result.verdict for name, result in found.about.items()} == {
        "job": "holds", "given": "holds", "socket-activation": "holds", "stop": "holds",
    }, found.about  # fmt: skip
    assert set(found.steps) == {step.name for step in STEPS}
    assert list(launchd.glob("*.json")) == []


def test_where_nobody_is_logged_in_the_job_is_not_known_and_nothing_else_is_lost(launchd, tmp_path):
    (launchd / "nobody-logged-in").touch()
    found = job.look_into(tmp_path, hands(), {})

    assert found.about["job"].verdict is Outcome.UNKNOWN
    assert "nobody is logged in" in found.about["job"].said


def test_a_job_that_says_nothing_is_told_and_taken_away(launchd, tmp_path, monkeypatch):
    monkeypatch.setattr(job.sys, "executable", "/bin/true")
    monkeypatch.setattr(job, "LONGEST", 0.5)
    found = job.look_into(tmp_path, hands(), {})

    assert found.about["job"].verdict is Outcome.FAILS
    assert list(launchd.glob("*.json")) == []


# The report


STEP = Step("fork", "forks live", holds)


def test_a_report_shows_where_the_job_differs_and_what_does_not_hold():
    made = report.Report(
        {"version": "1"}, [STEP], {"fork": holds("well")}, {"fork": fails("SIGSEGV")}, {"job": holds("ran")}
    )
    shown = report.text(made)

    assert "✓ here: well\n  ✗ in launchd: SIGSEGV\n  ! the job differs from its caller" in shown
    assert shown.endswith("does not hold: fork\n")
    assert made.document()["failed"] == ["fork"]


@pytest.mark.parametrize(
    "telling",
    [
        "/Users/alice/ccproxy/run", "/home/alice", "/private/var/folders/ab/cd/T/x", "192.168.7.12", "fe80:1:2:3:4:5:6:7",
        "alice", "Alices-Mini", "alices-mini.local", "a4:83:e7:00:11:22", "/tmp/cc-alice/x",
    ],
)  # fmt: skip
def test_a_report_names_no_person_machine_or_folder(telling):
    said = report.scrubbed(f"cannot open '{telling}': denied at 127.0.0.1", ["alice", "Alices-Mini"])
    assert said.startswith("cannot open '[hidden]")
    assert said.endswith("denied at 127.0.0.1")
    assert telling.lower() not in said.lower()


def test_a_whole_run_is_printed_and_written_and_holds_no_name(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(whole, "STEPS", [step for step in STEPS if step.name in ("lock", "door", "filevault")])
    monkeypatch.setenv("CCPROXY_HOME", str(tmp_path))
    done = CliRunner().invoke(main, ["selftest"])

    assert done.exit_code == 0, done.output
    assert (tmp_path / "ccproxy-selftest.txt").read_text() == done.stdout
    assert "- here: only on macOS" in done.stdout
    for name in (socket.gethostname(), str(tmp_path)):
        assert name not in done.stdout
    assert getpass.getuser() not in done.stdout.split()
    made = json.loads(CliRunner().invoke(main, ["selftest", "--json"]).stdout)
    assert made["caller"]["lock"]["verdict"] == "holds"


# What it decides


def made(caller=None, forked=None):
    about = {"forked-workers": forked} if forked else {}
    return report.Report({}, [STEP], {"fork": caller or holds()}, {}, about)


@pytest.mark.parametrize(
    ("caller", "forked", "before", "after"),
    [
        (holds(), holds(), False, True),
        (holds(), fails("2 died"), True, False),
        (fails("SIGSEGV"), holds(), True, False),
        (holds(), unknown("no preloader"), True, True),
        (holds(), None, False, False),
    ],
)
def test_forks_are_allowed_where_workers_were_seen_to_live_and_nowhere_else(tmp_path, caller, forked, before, after):
    home, mark = Home(tmp_path / "supervisor.yaml"), tmp_path / FORKS_LIVE
    mark.parent.mkdir()
    if before:
        mark.touch()
    whole.settle_forks(home, made(caller, forked))
    assert mark.exists() == after


def test_a_birth_is_held_against_a_clock_that_was_set_meanwhile():
    assert whole._over_a_step((5.0, 100.0), (5.0, 100.1)).verdict is Outcome.NOTED
    assert whole._over_a_step((5.0, 100.0), (5.0, 160.0)).verdict is Outcome.HOLDS
    assert whole._over_a_step((5.0, 100.0), (65.0, 160.0)).verdict is Outcome.FAILS


def test_every_step_has_a_name_of_its_own_and_says_what_it_assumes():
    assert len({step.name for step in STEPS}) == len(STEPS)
    assert all(step.assumes for step in STEPS)
    assert Path(whole.__file__).parent.name == "selftest"
