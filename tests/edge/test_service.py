"""The steps of install and uninstall, under a launchd that behaves and misbehaves like one."""

import os
import plistlib
import signal
import stat
import time

import pytest

import fake_launchctl
from ccproxy_supervisor.core.settings import parse
from ccproxy_supervisor.deploy import deletion, service
from ccproxy_supervisor.deploy.launchctl import Launchctl
from ccproxy_supervisor.deploy.launchd import Job, Place, plist, render
from ccproxy_supervisor.deploy.program import LATE, MISSING, Ran, run
from ccproxy_supervisor.edge.person import Owner

SETTINGS = parse("proxy: {drain_timeout: 1s, kill_timeout: 500ms, start_timeout: 2s}")
LABEL = "test.ccproxy"


def job(home, **changed):
    known = {"label": LABEL, "python": "/opt/ccproxy/bin/python", "config": home / "supervisor.yaml"}
    return Job(**known | {"settings": SETTINGS} | changed)


@pytest.fixture
def launchd(tmp_path, monkeypatch):
    variables = fake_launchctl.put_on_path(tmp_path / "launchd")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield tmp_path / "launchd/state"
    fake_launchctl.shut_down(variables)


class Bench:
    """A home, a program that stands in for the daemon, and hands that record what is said."""

    def __init__(self, tmp_path, program):
        self.home = tmp_path / "home"
        self.home.mkdir()
        (self.home / "supervisor.yaml").touch()
        self.fault = tmp_path / "fault"  # what `check` complains about
        check = (
            f'case "$*" in *" check "*) if [ -e {self.fault} ]; then cat {self.fault} >&2; exit 78; fi; exit 0; esac'
        )
        (tmp_path / "python").write_text(f"#!/bin/sh\n{check}\n{program}\n")
        (tmp_path / "python").chmod(0o755)
        self.job = job(self.home, python=str(tmp_path / "python"))
        self.place = Place("gui/501", tmp_path / "LaunchAgents")
        self.said = []
        self.up = self.home / "up"
        health = lambda _: self.up.read_text().strip() if self.up.exists() else None  # noqa: E731
        self.hands = service.Hands(run, self.said.append, health, sleep=lambda _: time.sleep(0.01))
        self.control = Launchctl(run, "gui/501", LABEL)

    def load(self, **changed):
        """Bootstrap the job with other keys than install would write."""
        service.make_folder(self.job.logs)
        service.write_plist(self.place.file(LABEL), plistlib.dumps(plist(self.job) | changed))
        assert self.control.bootstrap(self.place.file(LABEL))[0] == 0

    def install(self):
        service.install(self.job, self.place, self.hands)


SERVES = 'trap "rm -f up; exit 0" TERM; echo healthy >up.new; mv up.new up; while :; do sleep 0.02; done'
DEAF = 'trap "" TERM; echo healthy >up.new; mv up.new up; while :; do sleep 0.02; done'


@pytest.fixture
def bench(tmp_path, launchd):
    return Bench(tmp_path, SERVES)


def calls(launchd):
    return [line.split()[0] for line in (launchd / "calls").read_text().splitlines() if line[0] != "-"]


def test_install_leaves_a_service_that_serves(bench, launchd):
    bench.install()

    file = bench.place.file(LABEL)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE((bench.home / "logs").stat().st_mode) == 0o700
    assert stat.S_IMODE((bench.home / "logs/launchd.log").stat().st_mode) == 0o600
    assert file.read_bytes() == render(bench.job)
    assert bench.said[-1] == "gui/501/test.ccproxy serves on 127.0.0.1:8081 (healthy)"
    assert bench.control.loaded().exit_timeout == 12
    assert "kickstart" not in calls(launchd)


def test_install_again_stops_the_old_one_waits_and_starts_the_new_one(bench, launchd):
    bench.install()
    first = bench.control.loaded().pid
    bench.install()

    assert bench.control.loaded().pid not in (None, first)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert calls(launchd).count("bootstrap") == 2


def test_install_survives_a_launchd_that_is_busy(bench, launchd):
    (launchd / "busy").write_text("3")
    bench.install()

    assert calls(launchd).count("bootstrap") == 4


def test_install_lifts_what_a_disable_left(bench, launchd):
    run("launchctl", "disable", bench.control.target)
    bench.install()

    assert bench.control.loaded().pid


def test_a_mac_where_nobody_is_logged_in_is_explained(bench, launchd):
    (launchd / "nobody-logged-in").touch()

    with pytest.raises(service.ServiceError, match=r"nobody is logged in .* install with --daemon"):
        bench.install()
    assert not bench.place.file(LABEL).exists()


def test_a_daemon_that_falls_over_is_shown_with_its_last_words(tmp_path, launchd):
    bench = Bench(tmp_path, "echo 'supervisor.yaml:3: proxy.prot: unknown key' >&2; exit 78")
    (bench.home / "logs").mkdir()
    line = '{"time": "08:00", "level": "error", "event": "settings.refused", "faults": 1}\n'
    (bench.home / "logs/supervisor.log").write_text(line)

    with pytest.raises(service.ServiceError) as failure:
        bench.install()

    told = str(failure.value).splitlines()
    assert told[0].startswith("gui/501/test.ccproxy does not serve: it ended with exit code 78 (unusable configuration")
    assert "  | 08:00 error settings.refused faults=1" in told
    assert "  | supervisor.yaml:3: proxy.prot: unknown key" in told


def test_a_daemon_that_is_killed_at_start_is_shown_too(tmp_path, launchd):
    bench = Bench(tmp_path, "kill -9 $$")

    with pytest.raises(service.ServiceError, match="it ended with signal SIGKILL"):
        bench.install()


def test_a_daemon_that_never_serves_is_given_up_on_in_time(bench):
    clock = iter(range(10_000))
    bench.hands = service.Hands(run, bench.said.append, lambda _: None, sleep=lambda _: None, now=lambda: next(clock))

    with pytest.raises(service.ServiceError, match="does not serve: it answers nothing"):
        bench.install()


def test_another_supervisor_on_the_admin_port_is_named_and_nothing_is_left_behind(bench, launchd):
    bench.up.write_text("healthy")

    with pytest.raises(service.ServiceError, match=r"another supervisor answers on 127\.0\.0\.1:8082"):
        bench.install()
    assert set(calls(launchd)) == {"print"}
    assert not bench.place.file(LABEL).exists()


def test_another_supervisor_that_a_loaded_service_stood_beside_is_named_once_that_is_gone(bench, launchd):
    bench.load(ProgramArguments=["/bin/sh", "-c", "exit 75"])
    bench.up.write_text("healthy")

    with pytest.raises(service.ServiceError, match="another supervisor answers on"):
        bench.install()
    assert bench.control.loaded() is None


def test_a_launchctl_that_fails_is_not_taken_for_a_service_that_is_not_loaded():
    answers = iter(
        [Ran(1, err="Unrecognized error"), Ran(LATE), Ran(0, "\tpid = 7\n"), Ran(113), Ran(125), Ran(MISSING)]
    )
    control = Launchctl(lambda *_, **__: next(answers), "gui/501", LABEL)
    assert [control.loaded() is None for _ in range(6)] == [False, False, False, True, True, True]


def test_a_configuration_that_cannot_be_used_leaves_the_service_that_runs_alone(bench, launchd):
    bench.install()
    first, file = bench.control.loaded().pid, bench.place.file(LABEL).read_bytes()
    bench.fault.write_text("config.yaml:4: model_list[0]: OPENAI_API_KEY is not set")
    bench.job = job(bench.home, python=bench.job.python, sockets=True)

    with pytest.raises(service.ServiceError, match=r"nothing was changed.*\nconfig.yaml:4: .* is not set"):
        bench.install()
    assert bench.control.loaded().pid == first
    assert bench.place.file(LABEL).read_bytes() == file
    assert "bootout" not in calls(launchd)


def test_the_configuration_of_a_daemon_is_checked_as_its_user(tmp_path):
    asked = []
    hands = service.Hands(lambda *words, **_: asked.append(words) or Ran(0), print, lambda _: None)
    service.refuse_unusable(job(tmp_path, owner=Owner("you", 501, 20, "/Users/you")), hands)

    assert asked[0][:5] == ("sudo", "-H", "-u", "you", "/opt/ccproxy/bin/python")
    assert asked[0][-3:] == ("check", "--config", f"{tmp_path}/supervisor.yaml")


def test_a_second_service_of_the_same_home_is_refused_with_the_way_to_remove_the_first(tmp_path):
    agents, daemons = Place("gui/501", tmp_path / "agents"), Place("system", tmp_path / "daemons")
    service.write_plist(daemons.file("older"), render(job(tmp_path, label="older")))
    service.write_plist(agents.file("unrelated"), render(job(tmp_path / "elsewhere", label="unrelated")))
    service.refuse_rivals(job(tmp_path, label="older"), daemons, (agents, daemons))

    with pytest.raises(service.ServiceError) as refusal:
        service.refuse_rivals(job(tmp_path), agents, (agents, daemons))
    assert str(refusal.value).endswith(
        f"{daemons.file('older')} is of the same home; remove it first: "
        "sudo ccproxy-supervisor uninstall --daemon --label older"
    )


def test_install_warns_of_a_place_that_macos_closes_to_services(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "Documents").symlink_to(bench.home.parent)
    bench.job = job(tmp_path / "Documents/home", python=bench.job.python)
    bench.install()

    assert [line for line in bench.said if line.startswith("warning: ")] == [
        f"warning: {bench.job.home} is in ~/Documents, which macOS closes to services; if it does not start, move it"
    ]


def test_a_deaf_process_is_waited_for_until_launchd_has_killed_it(tmp_path, launchd):
    bench = Bench(tmp_path, DEAF)
    bench.load(ExitTimeOut=6)
    bench.hands.until(bench.up.exists, 30)
    pid = bench.control.loaded().pid
    assert bench.control.bootout(5) is None
    assert bench.control.bootstrap(bench.place.file(LABEL))[0] == 5

    assert service.stop(bench.control, 60, bench.hands)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert bench.control.bootstrap(bench.place.file(LABEL))[0] == 0


def test_uninstall_stops_it_removes_the_property_list_and_nothing_else(bench):
    bench.install()
    assert service.uninstall(LABEL, bench.place, bench.hands)

    assert not bench.place.file(LABEL).exists()
    assert bench.control.loaded() is None
    assert (bench.home / "supervisor.yaml").exists()
    assert not service.uninstall(LABEL, bench.place, bench.hands)


def test_a_killed_service_comes_back_but_not_at_once(bench):
    bench.load(ThrottleInterval=5)
    bench.hands.until(bench.up.exists, 30)
    first = bench.control.loaded()
    os.kill(first.pid, signal.SIGKILL)

    assert bench.hands.until(lambda: bench.control.loaded().state == "spawn scheduled", 30)
    assert bench.hands.until(lambda: bench.control.loaded().runs == 2, 30)
    assert bench.control.loaded().pid not in (None, first.pid)


# Who may install what


def test_a_daemon_needs_root_a_person_and_that_persons_home(tmp_path, monkeypatch):
    wanted = job(tmp_path, owner=Owner("you", os.getuid() + 1, 20, "/Users/you"))
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    with pytest.raises(service.ServiceError, match="without root: run it with sudo"):
        service.refuse_misuse(wanted)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(service.ServiceError, match="belongs to somebody else"):
        service.refuse_misuse(wanted)
    with pytest.raises(service.ServiceError, match="as root: name a person with --user"):
        service.refuse_misuse(job(tmp_path, owner=Owner("root", 0, 0, "/var/root")))


def test_an_agent_is_not_installed_with_sudo(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "you")

    with pytest.raises(service.ServiceError, match="run it as yourself, or add --daemon"):
        service.refuse_misuse(job(tmp_path))


def test_an_unknown_user_is_refused():
    with pytest.raises(service.ServiceError, match="there is no such user"):
        service.owner("nobody-of-that-name")


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(service.ServiceError, match=r"cannot make .*/file/logs: Not a directory; nothing was changed"):
        service.make_folder(tmp_path / "file/logs")


def test_a_property_list_that_cannot_be_written_leaves_no_half_of_it(tmp_path):
    (tmp_path / "a.plist").mkdir()

    with pytest.raises(service.ServiceError, match="cannot write "):
        service.write_plist(tmp_path / "a.plist", b"<plist/>")
    assert [path.name for path in tmp_path.iterdir()] == ["a.plist"]


def test_only_a_home_is_deleted_and_nothing_more(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "you"))
    home = tmp_path / "you/ccproxy"
    (home / "logs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(service.ServiceError, match=r"there is no supervisor\.yaml in it"):
        deletion.delete(home / "supervisor.yaml")
    for folder in (home, tmp_path / "you", tmp_path):
        (folder / "supervisor.yaml").touch()
    for more in (tmp_path / "you", tmp_path, tmp_path / "link"):
        with pytest.raises(service.ServiceError, match="it is not a folder of its own"):
            deletion.delete(more / "supervisor.yaml")
    deletion.delete(home / "supervisor.yaml")

    assert [path.name for path in (tmp_path / "you").iterdir()] == ["supervisor.yaml"]


def test_with_sudo_the_home_folder_of_its_owner_is_not_deleted_either(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/var/root")
    person = type("Person", (), {"pw_dir": str(tmp_path)})
    monkeypatch.setattr("pwd.getpwuid", lambda _: person)
    (tmp_path / "supervisor.yaml").touch()

    with pytest.raises(service.ServiceError, match="it is not a folder of its own"):
        deletion.delete(tmp_path / "supervisor.yaml")
    assert (tmp_path / "supervisor.yaml").exists()


def test_the_steps_are_told_without_being_taken(bench, launchd):
    told = list(service.steps(bench.job, bench.place))

    assert told[:2] == [
        "check the configuration, and that no other supervisor answers",
        f"write {bench.place.file(LABEL)} (0644):",
    ]
    assert told[-4:] == [
        "launchctl enable gui/501/test.ccproxy",
        "launchctl bootout gui/501/test.ccproxy, if it is loaded, and wait until it is gone",
        f"launchctl bootstrap gui/501 {bench.place.file(LABEL)}",
        "wait until http://127.0.0.1:8082/health says that it serves",
    ]
    assert not (launchd / "calls").exists()
    assert not bench.place.folder.exists()
