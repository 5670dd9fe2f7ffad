"""Ollama's processes: found among real ones, measured, and ended if they are ours."""

import shutil
import socket
import subprocess
import sys
import time

import psutil
import pytest

from ccproxy_supervisor.core.wedge import Runner
from ccproxy_supervisor.edge import runners

SERVER = """
import socket, subprocess, sys, time
port = socket.socket(); port.bind(("127.0.0.1", int(sys.argv[1]))); port.listen()
children = [subprocess.Popen(line.split(" ")) for line in sys.argv[2:]]
print("ready", flush=True)
time.sleep(600)
"""
RUNNER = "import signal, sys, time\nif 'stubborn' in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def ollama(tmp_path):
    """Start programs of that name: (what each child is started with) -> port and server."""
    for name in ("ollama", "llama-server", "helper"):
        (tmp_path / name).symlink_to(shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable)
    (tmp_path / "serve").write_text(SERVER)
    (tmp_path / "runner").write_text(RUNNER)
    started = []

    def start(*children):
        port = free_port()
        words = [str(tmp_path / "ollama"), "serve", str(port), *(f"{tmp_path}/{child}" for child in children)]
        server = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE)
        started.append(server)
        assert server.stdout.readline() == b"ready\n"
        return port, server

    yield start
    for server in started:
        if server.poll() is None:
            for process in [*psutil.Process(server.pid).children(), psutil.Process(server.pid)]:
                process.kill()
            server.wait()
        server.stdout.close()


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    """An Ollama of somebody else on this machine, as of another test, is none of ours: alone it would be taken for the one that is asked for."""
    seen, me = runners._seen, psutil.Process()

    def kin(looks):
        pids = {each.pid for each in me.children(recursive=True)}
        return (process for process in seen(looks) if process.pid in pids)

    monkeypatch.setattr(runners, "_seen", kin)


def settled(port, count):
    """A child takes its name when it has become its program."""
    deadline = time.monotonic() + 20
    while len(found := runners.runners(port) or ()) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_its_runners_of_every_kind_are_found_and_measured_and_nobody_else(ollama):
    port, server = ollama("ollama runner --port 1", "llama-server runner", "helper runner")
    found = settled(port, 2)
    assert {psutil.Process(one.pid).ppid() for one in found} == {server.pid}
    assert all(one.memory > 1 << 20 and one.born > 1e9 for one in found)


def test_of_two_ollamas_each_has_its_own_runners(ollama):
    one, first = ollama("ollama runner")
    other, _ = ollama("ollama runner", "ollama runner")
    assert [psutil.Process(each.pid).ppid() for each in settled(one, 1)] == [first.pid]
    assert len(settled(other, 2)) == 2


@pytest.mark.parametrize("word", ["", " stubborn"])
def test_a_runner_is_ended_whether_it_likes_it_or_not(ollama, monkeypatch, word):
    monkeypatch.setattr(runners, "PATIENCE", 0.5)
    port, _ = ollama(f"ollama runner{word}")
    (found,) = settled(port, 1)
    time.sleep(0.3 if word else 0)  # it must have come to ignore the signal
    assert runners.end(found)
    assert runners.runners(port) == ()


def test_another_process_of_that_number_is_not_touched(ollama):
    port, _ = ollama("ollama runner")
    (found,) = settled(port, 1)
    assert runners.end(Runner(found.pid, found.born - 1, 0.0, 0))
    assert runners.runners(port)


def test_somebody_elses_runner_is_not_ended(ollama, monkeypatch):
    port, _ = ollama("ollama runner")
    (found,) = settled(port, 1)
    monkeypatch.setattr(runners.os, "geteuid", lambda: 4711)
    assert not runners.end(found)
    assert runners.runners(port)


def test_runners_that_may_not_be_looked_at_are_not_seen(ollama, monkeypatch):
    port, _ = ollama("ollama runner")
    settled(port, 1)

    def refuse(self):
        raise psutil.AccessDenied(self.pid)

    refuse.cache_activate = refuse.cache_deactivate = lambda process: None
    monkeypatch.setattr(psutil.Process, "memory_info", refuse)
    assert runners.runners(port) is None


def test_the_server_is_known_by_its_port_and_missed_when_it_is_gone(ollama):
    port, server = ollama()
    key = runners.server(port)
    assert key == (server.pid, psutil.Process(server.pid).create_time())
    assert runners.server(port, key) == key
    assert runners.server(free_port()) is None
    server.kill()
    server.wait()
    assert runners.server(port, key) is None


def test_without_an_ollama_there_is_none():
    assert runners.runners(free_port()) == ()
