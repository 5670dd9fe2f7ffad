"""A service manager holds the public socket: killing the supervisor refuses nobody. With the real systemd program."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from daemon import Daemon, wait_until_gone
from raw_client import answer, request

ACTIVATE = shutil.which("systemd-socket-activate")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(ACTIVATE is None, reason="no systemd-socket-activate (Debian: systemd)"),
]
#: What systemd does, in a line: keep the socket, name the new process in LISTEN_PID, start it again when it ends.
KEEP_ALIVE = 'while :; do sh -c \'LISTEN_PID=$$ exec "$@"\' sh "$@"; done'


@pytest.fixture
def activated():
    quick = {"interval": "200ms", "timeout": "3s"}
    with Daemon(health=quick) as daemon, (daemon.folder / "said.txt").open("ab") as said:
        run = [sys.executable, "-m", "ccproxy_supervisor", "run", "--config", str(daemon.home.settings_file)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
        manager = subprocess.Popen(
            [ACTIVATE, "--listen", f"127.0.0.1:{daemon.port}", "sh", "-c", KEEP_ALIVE, "sh", *run],
            env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
        daemon.process = manager
        wait_until_listening(daemon.port)
        yield daemon
        family = psutil.Process(manager.pid).children(recursive=True)
        manager.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, 5)
        manager.wait()
        daemon.process = None


def wait_until_listening(port):
    deadline = time.monotonic() + 60
    while f":{port:04X} 00000000:0000 0A" not in Path("/proc/net/tcp").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_client_starts_the_supervisor_and_is_served(activated):
    assert answer(request(activated.port)) == b"HTTP/1.1 200 OK"
    activated.until(lambda _: [line["address"] for line in activated.log() if line["event"] == "listener.activated"])


def test_a_worker_serves_on_while_its_supervisor_is_dead_and_is_the_next_one_s(activated):
    assert answer(request(activated.port)) == b"HTTP/1.1 200 OK"
    first = activated.until(lambda status: status["status"] == "healthy")
    os.kill(first["pid"], signal.SIGKILL)
    assert [answer(request(activated.port)) for _ in range(10)] == [b"HTTP/1.1 200 OK"] * 10

    second = activated.until(lambda status: status["status"] == "healthy" and status["pid"] != first["pid"])
    assert [worker["pid"] for worker in second["workers"]] == [worker["pid"] for worker in first["workers"]]


def test_a_client_that_comes_while_all_are_dead_is_served_by_the_next_ones(activated):
    assert answer(request(activated.port)) == b"HTTP/1.1 200 OK"
    first = activated.status()
    os.kill(first["pid"], signal.SIGKILL)
    for worker in first["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)
    for worker in first["workers"]:
        wait_until_gone(worker["pid"])
    waiting = [request(activated.port) for _ in range(10)]

    assert [answer(client) for client in waiting] == [b"HTTP/1.1 200 OK"] * 10
    second = activated.until(lambda status: status["status"] == "healthy")
    assert second["pid"] != first["pid"]


def test_a_socket_for_somebody_else_is_not_taken():
    with Daemon() as daemon, (daemon.folder / "said.txt").open("ab") as said:
        run = [sys.executable, "-m", "ccproxy_supervisor", "run", "--config", str(daemon.home.settings_file)]
        environ = os.environ | {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
        daemon.process = subprocess.Popen(run, env=environ, stdout=said, stderr=said)
        daemon.until(lambda status: status["status"] == "healthy")

        assert daemon.get("/").status_code == 200
        assert daemon.end() == 0
