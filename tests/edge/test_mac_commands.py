"""install, uninstall, doctor and why, as a person types them."""

import json
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
