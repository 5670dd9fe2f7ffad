"""Whether the daemon runs, who holds its ports, and what launchd makes of the service."""

import dataclasses
import os
import socket
import time

import pytest

import fake_launchctl
from ccproxy_supervisor.deploy.doctor import ports, service
from ccproxy_supervisor.deploy.doctor.finding import Level
from ccproxy_supervisor.deploy.launchctl import Launchctl, Loaded
from ccproxy_supervisor.deploy.launchd import LABEL as USUAL
from ccproxy_supervisor.deploy.launchd import Job, plist
from ccproxy_supervisor.deploy.program import run
from ccproxy_supervisor.edge.home import Home
from doctor_stage import LABEL, Stage


@pytest.fixture
def stage(tmp_path, monkeypatch):
    return Stage(tmp_path, monkeypatch)


STATUS = "http://127.0.0.1:8082/status"


@pytest.mark.parametrize(
    ("answer", "level", "evidence"),
    [
        (None, Level.FAIL, "nothing answers on 127.0.0.1:8082"),
        ({"status": "healthy", "pid": 41, "uptime": 3600}, Level.OK, "pid 41, up 3600 s"),
        ({"status": "degraded", "ollama": {"up": False}}, Level.WARN, "Ollama is down"),
        ({"status": "unhealthy", "workers": [{"slot": 0, "state": "backoff"}]}, Level.FAIL, "slot 0: backoff"),
        (b"<html>", Level.FAIL, "nothing answers on 127.0.0.1:8082"),
    ],
)
def test_the_daemon_s_own_word_is_judged(stage, answer, level, evidence):
    if answer is not None:
        stage.answer(STATUS, answer)
    [finding] = ports.daemon(stage.scene)

    assert (finding.level, finding.evidence) == (level, evidence)


def test_a_port_held_by_a_stranger_is_named_with_its_holder(stage):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        seen = ports.look(stage.scene, "127.0.0.1", port)

    assert (seen.answered, seen.pid) == (True, os.getpid())
    finding = ports.judge("proxy", port, seen, daemon=None)
    assert finding.title == f"port {port} (proxy.port) is held by a stranger"
    assert f"pid {os.getpid()}" in finding.evidence


@pytest.mark.parametrize(
    ("seen", "daemon", "level"),
    [
        (ports.Seen(False, None, ""), None, Level.OK),
        (ports.Seen(False, None, ""), 41, Level.FAIL),
        (ports.Seen(True, 41, "pid 41"), 41, Level.OK),
        (ports.Seen(True, 1, "pid 1 (launchd)"), 41, Level.OK),
        (ports.Seen(True, None, ""), 41, Level.OK),
        (ports.Seen(True, None, ""), None, Level.FAIL),
        (ports.Seen(True, 2**22, "pid 4194304"), 41, Level.FAIL),
        (ports.Seen(True, os.getpid(), "a worker"), os.getppid(), Level.OK),
    ],
)
def test_the_right_holder_is_told_from_a_stranger(seen, daemon, level):
    assert ports.judge("proxy", 8081, seen, daemon).level is level


def test_lsof_is_asked_where_the_library_sees_nothing(stage, monkeypatch):
    monkeypatch.setattr(ports, "holder", lambda *_: None)
    stage.program("lsof", "p4711\ncnode")

    assert ports.look(stage.scene, "127.0.0.1", 8081) == ports.Seen(True, 4711, "pid 4711 (node)")


def test_a_port_nobody_may_look_at_is_tried(stage, monkeypatch):
    monkeypatch.setattr(ports, "holder", lambda *_: None)
    assert not ports.look(stage.scene, "127.0.0.1", 8081).answered
    stage.answer("http://127.0.0.1:8081/health/liveliness", b"", 404)

    assert ports.look(stage.scene, "127.0.0.1", 8081) == ports.Seen(True, None, "")


@pytest.fixture
def launchd(stage, monkeypatch):
    variables = fake_launchctl.put_on_path(stage.tmp / "launchd")
    monkeypatch.setenv("FAKE_LAUNCHD", variables["FAKE_LAUNCHD"])
    (stage.bin / "launchctl").symlink_to(stage.tmp / "launchd/bin/launchctl")
    (stage.tmp / "python").write_text("#!/bin/sh\nexec sleep 30\n")
    (stage.tmp / "python").chmod(0o755)
    yield stage.tmp / "launchd/state"
    fake_launchctl.shut_down(variables)


def test_without_launchctl_there_is_nothing_to_say(stage):
    assert stage.found(service.service) == [(Level.SKIP, "the launchd service")]


def test_no_service_is_worth_a_warning(stage, launchd):
    assert stage.found(service.service) == [(Level.WARN, "no service is installed: nothing starts the daemon")]


def bootstrapped(stage, **changed):
    python = str(stage.tmp / "python")
    keys = {"ProgramArguments": [python, *plist(stage.job)["ProgramArguments"][1:]]}
    file = stage.installed(**keys | changed)
    assert run("launchctl", "bootstrap", "gui/501", str(file)).status == 0
    deadline, control = time.monotonic() + 30, Launchctl(run, "gui/501", LABEL)
    while not control.loaded().runs:  # loaded comes before started
        assert time.monotonic() < deadline


def test_a_service_that_runs_as_written_is_well(stage, launchd, monkeypatch):
    bootstrapped(stage)
    monkeypatch.setattr(
        Stage, "job", Job(LABEL, str(stage.tmp / "python"), stage.folder / "supervisor.yaml", stage.settings)
    )
    scene = stage.scene
    object.__setattr__(scene, "python", str(stage.tmp / "python"))

    assert [(each.level, each.title) for each in service.service(scene)] == [
        (Level.OK, "the property list is what install would write"),
        (Level.OK, "launchd runs the service (running)"),
    ]


def test_a_service_of_another_supervisor_is_named(stage, launchd):
    bootstrapped(stage)
    found = list(service.service(stage.scene))

    assert found[0].title == "the service runs another supervisor than this one"
    assert found[0].evidence == f"it starts {stage.tmp / 'python'}, this is /opt/python"


def test_an_edited_property_list_is_shown_key_by_key(stage, launchd):
    stage.installed(KeepAlive=False, Extra=1)
    found = list(service.service(stage.scene))

    assert found[0].evidence == "Extra: 1, wanted None; KeepAlive: False, wanted True"
    assert found[0].remedy == f"ccproxy-supervisor install --label test.ccproxy --config {stage.folder}/supervisor.yaml"
    assert found[1].title == "the service is installed but launchd has not loaded it"


def test_a_service_whose_person_is_not_logged_in_is_not_to_be_installed_again(stage, launchd):
    stage.installed()
    (launchd / "nobody-logged-in").touch()
    [*_, finding] = service.service(stage.scene)

    assert (finding.level, finding.title) == (Level.FAIL, "the service waits for its person to log in")
    assert "install with --daemon" in finding.remedy


@pytest.mark.parametrize("status", [112, 125])
def test_launchctl_s_words_for_nobody_there_are_known(stage, status):
    stage.program("launchctl", "Could not find domain", status)
    control = Launchctl(run, "gui/501", LABEL)

    assert control.loaded() is None
    assert control.nobody_there()
    assert "nobody is logged in" in control.bootstrap(stage.folder)[1]


def test_a_property_list_of_somebody_else_is_found(stage, launchd, monkeypatch):
    owner = os.getuid() or 4242
    os.chown(stage.installed(), owner, -1)
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)

    assert (Level.FAIL, "the property list is somebody else's: launchd refuses it") in stage.found(service.service)


def test_a_fault_of_another_file_does_not_hide_the_service(stage, launchd):
    bootstrapped(stage, ExitTimeOut=20)
    scene = stage.scene
    del scene.__dict__["plan"]  # config.yaml is not there
    titles = [finding.title for finding in service.service(scene)]

    assert "launchd would kill a stop that is within its budget" in titles
    assert "launchd still works by an older property list" in titles


def test_an_exit_timeout_below_the_stop_budget_is_wrong_on_disk_and_in_launchd(stage, launchd):
    bootstrapped(stage, ExitTimeOut=20)
    titles = [title for level, title in stage.found(service.service) if level is Level.FAIL]

    assert titles == [
        "launchd would kill a stop that is within its budget",
        "launchd still works by an older property list",
    ]


def test_a_service_that_keeps_falling_is_explained(stage, launchd):
    (stage.tmp / "python").write_text("#!/bin/sh\nexit 78\n")
    bootstrapped(stage)
    deadline = time.monotonic() + 30
    while not (found := [each for each in service.service(stage.scene) if each.level is Level.FAIL]):
        assert time.monotonic() < deadline

    assert found[0].title == "launchd cannot keep the service running"
    assert found[0].evidence.startswith("the last time it ended with exit code 78 (unusable configuration")


@pytest.mark.parametrize(
    ("ended", "level", "evidence"),
    [
        ({}, Level.OK, "started 2 times, pid 731"),
        ({"last_exit": 0}, Level.OK, "started 2 times, pid 731"),
        ({"last_exit": 1}, Level.WARN, "the last time it ended with exit code 1 (a fault in the program), started 2 t"),
        (
            {"last_signal": "SIGKILL"},
            Level.WARN,
            "the last time it ended with signal SIGKILL, started 2 times, pid 731",
        ),
    ],
)
def test_a_service_that_runs_again_is_asked_how_it_ended_before(stage, launchd, monkeypatch, ended, level, evidence):
    stage.installed()
    loaded = Loaded("running", 731, 2, **ended)
    monkeypatch.setattr("ccproxy_supervisor.deploy.launchctl.Launchctl.loaded", lambda _: loaded)
    found = list(service.service(stage.scene))[-1]

    assert found.level is level
    assert evidence in found.evidence


def test_the_way_back_is_the_way_the_service_was_installed(stage, launchd):
    stage.installed("daemon", UserName="root", Sockets={}, KeepAlive=False)
    [remedy] = {finding.remedy for finding in service.service(stage.scene)}

    home = f"--config {stage.folder}/supervisor.yaml"
    assert remedy == f"sudo ccproxy-supervisor install --daemon --label {LABEL} {home} --user root --socket"


def test_a_usual_home_and_label_need_no_words(stage, launchd):
    scene = dataclasses.replace(stage.scene, home=Home(stage.tmp / "ccproxy/supervisor.yaml"), label=USUAL)
    [finding] = service.service(scene)

    assert finding.remedy == (
        "ccproxy-supervisor install or, where nobody logs in: sudo ccproxy-supervisor install --daemon"
    )


def test_a_writable_or_unreadable_property_list_and_two_services_are_wrong(stage, launchd):
    stage.installed().chmod(0o664)
    stage.installed("daemon").write_text("<plist>")
    titles = [title for level, title in stage.found(service.service) if level is Level.FAIL]

    assert titles[:2] == [
        "two services want the same home",
        "the property list can be written by others: launchd refuses it",
    ]
    assert "the property list cannot be read" in titles
