"""install, uninstall, doctor and why, as a person types them."""

import json
import plistlib
import sys

import pytest
from click.testing import CliRunner

from ccproxy_supervisor.cli import main
from ccproxy_supervisor.cli.mac import LABEL as SHOWN_LABEL
from ccproxy_supervisor.deploy.launchd import LABEL
from ccproxy_supervisor.edge.incidents import write


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "ccproxy"
    folder.mkdir(mode=0o700)
    (folder / "supervisor.yaml").write_text("proxy: {port: 20451}\nadmin: {port: 20452}\n")
    monkeypatch.setenv("CCPROXY_HOME", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SUDO_USER", raising=False)
    (tmp_path / "bin").mkdir()
    return folder


def typed(*words, answer=""):
    return CliRunner().invoke(main, words, input=answer)


def test_the_label_in_the_help_is_the_one_of_the_template():
    assert SHOWN_LABEL == LABEL  # written twice so that --help imports nothing


def test_without_launchctl_nothing_is_installed_and_it_is_said(home):
    for command in ("install", "uninstall"):
        result = typed(command)
        assert result.exit_code == 2
        assert "this system has no launchctl" in result.stderr


def test_a_dry_run_prints_the_property_list_and_touches_nothing(home, tmp_path):
    result = typed("install", "--dry-run", "--socket", "--label", "my.label")

    assert result.exit_code == 0
    assert f"write {tmp_path}/Library/LaunchAgents/my.label.plist (0644):" in result.stdout
    assert "<key>Sockets</key>" in result.stdout
    assert f"<string>{sys.executable}</string>" in result.stdout
    assert not (tmp_path / "Library").exists()


def test_a_dry_run_of_uninstall_says_what_stays(home):
    assert typed("uninstall", "--dry-run").stdout.endswith(f"keep {home}\n")
    assert typed("uninstall", "--dry-run", "--purge").stdout.endswith(f"delete {home}\n")


def test_a_dry_run_shows_that_another_service_of_the_home_is_in_the_way(home, installed):
    result = typed("install", "--dry-run", "--label", "second", "--config", str(installed / "supervisor.yaml"))

    assert result.exit_code == 1
    assert result.stderr.endswith(f"{LABEL}.plist is of the same home; remove it first: ccproxy-supervisor uninstall\n")


def test_settings_that_cannot_be_used_are_not_installed(home):
    (home / "supervisor.yaml").write_text("proxy: {prot: 1}\n")
    result = typed("install", "--dry-run")

    assert result.exit_code == 1
    assert "did you mean proxy.port?" in result.stderr


def test_a_daemon_of_nobody_is_refused(home):
    result = typed("install", "--dry-run", "--daemon", "--user", "nobody-of-that-name")

    assert (result.exit_code, result.stderr) == (
        1,
        "cannot run the service as 'nobody-of-that-name': there is no such user\n",
    )


def test_a_daemon_s_home_is_its_user_s_whatever_sudo_made_of_home(home, monkeypatch):
    monkeypatch.delenv("CCPROXY_HOME")
    monkeypatch.setenv("HOME", "/elsewhere")
    result = typed("install", "--dry-run", "--daemon", "--user", "daemon")

    assert "/ccproxy/supervisor.yaml" in result.stderr
    assert "/elsewhere" not in result.stderr


@pytest.fixture
def idle_launchctl(home, tmp_path):
    script = tmp_path / "bin/launchctl"
    script.write_text("#!/bin/sh\nexit 113\n")
    script.chmod(0o755)


def test_purge_shows_what_it_deletes_and_asks_first(home, idle_launchctl):
    refused = typed("uninstall", "--purge", answer="n\n")
    assert refused.exit_code == 1
    assert f"{home} holds: supervisor.yaml" in refused.stdout
    assert home.exists()

    assert typed("uninstall", "--purge", answer="y\n").exit_code == 0
    assert not home.exists()


@pytest.fixture
def installed(home, idle_launchctl, tmp_path):
    """A service of another home than the usual one."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "supervisor.yaml").touch()
    file = tmp_path / f"Library/LaunchAgents/{LABEL}.plist"
    file.parent.mkdir(parents=True)
    words = ["python", "-m", "ccproxy_supervisor", "run", "--config", str(served / "supervisor.yaml")]
    file.write_bytes(plistlib.dumps({"Label": LABEL, "ProgramArguments": words}))
    return served


def test_purge_deletes_the_home_that_the_service_runs_from_and_no_other(home, installed, monkeypatch):
    monkeypatch.delenv("CCPROXY_HOME")
    assert typed("uninstall", "--dry-run").stdout.endswith(f"keep {installed}\n")
    assert typed("uninstall", "--purge", "--yes").stdout.endswith(f"deleted {installed}\n")

    assert home.exists()
    assert not installed.exists()


@pytest.mark.parametrize("named", ["option", "variable"])
def test_purge_of_another_home_than_the_service_s_is_refused_before_it_is_stopped(home, installed, monkeypatch, named):
    if named == "option":
        monkeypatch.delenv("CCPROXY_HOME")
    words = ["--config", str(home / "supervisor.yaml")] if named == "option" else []
    result = typed("uninstall", "--purge", "--yes", *words)

    assert result.exit_code == 1
    assert f"runs from {installed}" in result.stderr
    assert home.exists()
    assert installed.exists()
    assert (home.parent / f"Library/LaunchAgents/{LABEL}.plist").exists()


def test_purge_does_not_guess_at_a_property_list_it_cannot_read(home, installed):
    (home.parent / f"Library/LaunchAgents/{LABEL}.plist").write_text("<plist>")
    assert "cannot read " in typed("uninstall", "--purge", "--yes").stderr
    assert home.exists()

    assert typed("uninstall").exit_code == 0


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_without_settings_is_not_deleted(home, idle_launchctl, there):
    (home / "supervisor.yaml").unlink()
    if not there:
        home.rmdir()
    result = typed("uninstall", "--purge")

    assert (result.exit_code, result.stderr) == (1, f"cannot delete {home}: there is no supervisor.yaml in it\n")
    assert home.exists() is there


def test_a_home_that_a_supervisor_lives_in_is_not_deleted(home, idle_launchctl, monkeypatch):
    monkeypatch.setattr("ccproxy_supervisor.cli.mac.ask", lambda *_: {"status": "healthy"})
    result = typed("uninstall", "--purge", "--yes")

    assert result.exit_code == 1
    assert "a supervisor still runs from it" in result.stderr
    assert home.exists()


def test_a_daemon_is_not_removed_without_root(home, idle_launchctl, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 501)
    monkeypatch.setenv("USER", "daemon")

    assert typed("uninstall", "--daemon").stderr == "cannot remove a LaunchDaemon without root: run it with sudo\n"


def test_uninstall_of_nothing_is_no_failure(home, idle_launchctl):
    result = typed("uninstall")

    assert result.exit_code == 0
    assert result.stdout.endswith("was not installed\n")
    assert home.exists()


def test_doctor_tells_marks_evidence_and_remedies(home):
    result = typed("doctor")

    assert result.exit_code == 2
    assert "\nConfiguration\n ✗ the configuration cannot be used: " in result.stdout
    assert " - FileVault and automatic login: not on this system\n" in result.stdout
    assert "   → " in result.stdout


def test_doctor_says_the_same_in_json(home):
    result = typed("doctor", "--json")
    findings = json.loads(result.stdout)

    assert result.exit_code == 2
    assert {finding["level"] for finding in findings} <= {"ok", "skip", "warn", "fail"}
    assert all(set(finding) == {"topic", "level", "title", "evidence", "remedy"} for finding in findings)
    assert [f["title"] for f in findings if f["level"] in ("warn", "fail") and not f["remedy"]] == []


def test_why_without_incidents_says_so(home):
    assert typed("why").stdout.startswith("Nothing ended without being asked to")


def test_why_tells_the_last_ones_newest_last(home):
    for second in (1, 2, 3):
        record = {"at": f"2026-11-23T08:00:0{second}Z", "cause": "exited", "worker": second, "slot": 0, "status": -9}
        write(home / "run/incidents", record | {"exit": "was killed by SIGKILL", "uptime": 61.0, "output": ["bye"]})

    told = typed("why", "--last", "2").stdout.splitlines()
    assert told[1] == "  Worker 2 in slot 0 was killed by SIGKILL after 1 min 1 s."
    assert told[-2:] == ["  Its last words:", "    | bye"]
    assert [each["worker"] for each in json.loads(typed("why", "--json").stdout)] == [1, 2, 3]
