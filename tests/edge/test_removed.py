"""What somebody removes under a running daemon comes back, and nobody is ended or misinformed for it."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time

import pytest

from ccproxy_supervisor.edge.ownership import owned, owner
from daemon import Daemon, wait_until_gone

pytestmark = pytest.mark.once


@pytest.fixture
def daemon():
    with Daemon(proxy={"workers": 2, "standby": 1}) as it:
        it.start().until(lambda status: [w["state"] for w in status["workers"]] == ["serving", "serving", "standby"])
        yield it


def remove(folder):
    """At once: while one file after the other goes, new ones come."""
    aside = folder.with_name(f"removed-{folder.name}")
    folder.rename(aside)
    shutil.rmtree(aside)


def until(fact, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
    return found


def mode(path):
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(os.lstat(path).st_mode)


def complete(folder):
    """Whether everything that belongs in `run` is there, open to nobody else."""
    files = ("supervisor.lock", "control.sock", "state.json", "stuck-stack.txt")
    return mode(folder / "run") == 0o700 and all(mode(folder / "run" / name) == 0o600 for name in files)


def cli(daemon, *words):
    command = [sys.executable, "-m", "ccproxy_supervisor", *words, "--config", str(daemon.home.settings_file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def probes(daemon):
    """How often each living worker was found well."""
    samples = daemon.metrics().splitlines()
    return next(float(s.split()[1]) for s in samples if s.startswith('ccproxy_probe_seconds_count{probe="liveness"}'))


def test_a_removed_run_folder_comes_back_and_no_worker_is_blamed(daemon):
    before = daemon.status()["workers"]
    remove(daemon.folder / "run")

    until(lambda: complete(daemon.folder))
    seen = probes(daemon)
    until(lambda: probes(daemon) >= seen + 3 * 5)  # longer than it takes to give a worker up

    after = daemon.status()
    assert [worker["pid"] for worker in after["workers"]] == [worker["pid"] for worker in before]
    assert after["status"] == "healthy"
    assert daemon.order("/restart")["result"] == "rolled"
    restored = {line["file"] for line in daemon.log() if line["event"] == "file.restored"}
    assert {"run", "run/supervisor.lock", "run/state.json"} <= restored


def test_a_removed_run_folder_lets_no_second_supervisor_in(daemon):
    os.kill(daemon.process.pid, 19)  # it cannot restore anything meanwhile
    try:
        remove(daemon.folder / "run")
        second = cli(daemon, "run")
        assert (second.returncode, second.stderr) == (
            75, f"cannot use {daemon.folder}: another supervisor owns it\n",
        )  # fmt: skip
        (daemon.folder / "run").rmdir()  # the second made one
        told = cli(daemon, "status")
        assert told.returncode == 1
        assert told.stderr == (
            f"Error: running, but its control socket {daemon.folder}/run/control.sock is gone; "
            "it restores it within 5 s\n"
        )
    finally:
        os.kill(daemon.process.pid, 18)
    until(lambda: complete(daemon.folder))
    assert cli(daemon, "run").stderr == f"cannot use {daemon.folder}: process {daemon.process.pid} owns it\n"


def test_an_order_waits_for_a_control_socket_that_is_gone(daemon):
    os.unlink(daemon.folder / "run" / "control.sock")
    told = cli(daemon, "reload")
    assert (told.returncode, told.stdout.partition(":")[0]) == (0, "unchanged")


def test_status_and_doctor_tell_a_lost_control_socket_from_a_daemon_that_does_not_run(daemon):
    os.kill(daemon.process.pid, 19)
    try:
        os.unlink(daemon.folder / "run" / "control.sock")
        told = cli(daemon, "status")
        findings = json.loads(cli(daemon, "doctor", "--json").stdout)
    finally:
        os.kill(daemon.process.pid, 18)
    assert told.returncode == 1
    assert f"running (pid {daemon.process.pid}), but its control socket" in told.stderr
    titles = [finding["title"] for finding in findings]
    assert "the daemon runs, but its control socket is gone" in titles
    assert "the daemon does not run" not in titles

    daemon.end()
    told = cli(daemon, "status")
    assert (told.returncode, "not running" in told.stderr) == (3, True)


def test_removed_state_and_incidents_are_written_again(daemon):
    victim = daemon.pids()[0]
    os.kill(victim, 9)
    folder = daemon.folder / "run" / "incidents"
    names = until(lambda: folder.is_dir() and sorted(p.name for p in folder.glob("*.json")))
    daemon.until(lambda status: status["status"] == "healthy" and len(status["workers"]) == 3)
    remove(daemon.folder / "run")
    assert until(lambda: folder.is_dir() and sorted(p.name for p in folder.glob("*.json"))) == names
    assert mode(folder) == 0o700
    until(lambda: complete(daemon.folder))
    pids = {worker["pid"] for worker in daemon.status()["workers"]}
    assert {worker["pid"] for worker in daemon.saved(lambda saved: saved["workers"])["workers"]} == pids


def test_a_removed_logs_folder_comes_back_as_private_as_it_was(daemon):
    remove(daemon.folder / "logs")
    files = [daemon.folder / "logs" / f"{name}.log" for name in ("supervisor", "litellm", "stdout", "stderr")]
    until(lambda: all(mode(file) == 0o600 for file in files))
    assert mode(daemon.folder / "logs") == 0o700


def test_workers_start_and_serve_while_there_can_be_no_run_folder(daemon):
    """Something else stands in its place: probes need no path."""
    remove(daemon.folder / "run")
    (daemon.folder / "run").write_text("in the way")
    old = set(daemon.pids_by_admin())
    daemon.process.send_signal(1)
    for pid in old:
        os.kill(pid, 9)
        wait_until_gone(pid)
    until(lambda: len(new := daemon.pids_by_admin()) == 2 and not old & set(new))
    assert daemon.get("/whoami").status_code in (200, 404)
    lost = until(lambda: [line for line in daemon.log() if line["event"] == "file.lost"])
    assert lost[0]["error"] == "cannot restore run: File exists; trying again"
    os.unlink(daemon.folder / "run")
    until(lambda: complete(daemon.folder))


def test_a_killed_owner_leaves_no_lock(daemon):
    assert owned(daemon.home.run)
    assert owner(daemon.home.run) == daemon.process.pid
    daemon.process.kill()
    daemon.process.wait()
    assert not owned(daemon.home.run)
