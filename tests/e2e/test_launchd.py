"""The real daemon as a service, under a launchd that behaves as the real one is known to: from install to uninstall."""

import os
import plistlib
import signal
import subprocess
import sys
import threading
import time

import httpx
import psutil
import pytest

import fake_launchctl
from daemon import ROOT, Daemon, wait_until_gone
from raw_client import answer, request

LABEL = "test.ccproxy"
LITELLM = ROOT / ".cache/home/venv/bin/python"
pytestmark = pytest.mark.real


class Service:
    """A home of the stub, and the command line with the fake launchctl first on its PATH."""

    def __init__(self, tmp_path, python=None):
        self.daemon = Daemon(python, proxy={"hold": "60s"}, health={"interval": "500ms", "timeout": "5s"})
        self.variables = fake_launchctl.put_on_path(tmp_path / "launchd")
        self.env = os.environ | self.variables | {"HOME": str(tmp_path)}
        self.plist = tmp_path / f"Library/LaunchAgents/{LABEL}.plist"

    def typed(self, command, *words):
        line = [sys.executable, "-m", "ccproxy_supervisor", command, *words]
        line += ["--config", str(self.daemon.home.settings_file)]
        line += ["--label", LABEL] if command in ("install", "uninstall", "doctor") else []
        return subprocess.run(line, env=self.env, capture_output=True, text=True, timeout=180, check=False)

    def printed(self):
        command = ["launchctl", "print", f"gui/{os.getuid()}/{LABEL}"]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)

    def until(self, fact, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if fact(status := self.daemon.status()):
                    return status
            except Exception:
                pass
            time.sleep(0.05)
        raise AssertionError(self.daemon.last_words())

    def close(self):
        """Leave nothing behind, however the test went: workers know their home, and nobody else lives there."""
        fake_launchctl.shut_down(self.variables)
        for process in self.inhabitants():
            process.kill()
        self.daemon.close()

    def inhabitants(self):
        return [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(self.daemon.folder)]

    def kill_all(self):
        """The supervisor first: it would replace its workers."""
        first = self.daemon.status()
        for pid in (first["pid"], *(worker["pid"] for worker in first["workers"])):
            os.kill(pid, signal.SIGKILL)
        for worker in first["workers"]:
            wait_until_gone(worker["pid"])
        return first


@pytest.fixture
def service(tmp_path):
    made = Service(tmp_path)
    yield made
    made.close()


def test_install_kill_reload_uninstall(service):
    daemon = service.daemon
    done = service.typed("install")
    assert done.returncode == 0, done.stdout + done.stderr + daemon.last_words()
    assert done.stdout.endswith(f"serves on 127.0.0.1:{daemon.port} (healthy)\n")
    first = daemon.status()

    os.kill(first["pid"], signal.SIGKILL)  # it comes back by itself, and goes on with the worker it left
    second = service.until(lambda status: status["pid"] != first["pid"] and status["status"] == "healthy")
    assert daemon.get("/").status_code == 200
    assert [worker["pid"] for worker in second["workers"]] == [worker["pid"] for worker in first["workers"]]

    daemon.change(proxy={"env": {"CHANGED": "yes"}})
    assert service.typed("reload").stdout.startswith("rolled: ")
    assert daemon.get("/env").json()["CHANGED"] == "yes"
    assert daemon.status()["pid"] == second["pid"]

    doctor = service.typed("doctor", "--traefik", daemon.admin_url)
    assert "✓ the property list is what install would write" in doctor.stdout
    assert "! launchd had to start the service again: the last time it ended with signal SIGKILL" in doctor.stdout
    assert f"✓ port {daemon.port} (proxy.port) is held by the daemon" in doctor.stdout

    done = service.typed("uninstall")
    assert done.returncode == 0, done.stderr
    assert service.printed().returncode == 113
    assert not service.plist.exists()
    assert (daemon.folder / "supervisor.yaml").exists()
    wait_until_gone(second["pid"])
    assert service.inhabitants() == []


def test_install_again_replaces_the_service_and_finishes_what_is_in_flight(service):
    assert service.typed("install").returncode == 0
    first, lines = service.daemon.status()["pid"], []

    def read():
        with httpx.stream("GET", f"{service.daemon.url}/stream?chunks=40&every=0.05", timeout=180) as answer:
            started.set()
            lines.extend(line for line in answer.iter_lines() if line)

    started, thread = threading.Event(), threading.Thread(target=read)
    thread.start()
    assert started.wait(60)
    done = service.typed("install")
    thread.join()

    assert done.returncode == 0, done.stderr
    assert "stopping " in done.stdout
    assert service.daemon.status()["pid"] != first
    assert lines[-1] == "data: [DONE]"


def test_a_configuration_that_cannot_be_used_is_not_installed_and_the_service_goes_on(service):
    assert service.typed("install").returncode == 0
    first = service.daemon.status()["pid"]
    service.daemon.write("config.yaml", "model_list: 3\n")
    done = service.typed("install", "--socket")

    assert done.returncode == 1
    assert "nothing was changed; ccproxy-supervisor check says:\nconfig.yaml:1" in done.stderr
    assert service.daemon.status()["pid"] == first
    assert service.daemon.get("/").status_code == 200
    assert service.typed("doctor").returncode == 2


def test_a_supervisor_that_runs_by_hand_is_not_fought_with(service):
    service.daemon.start()
    done = service.typed("install")
    service.daemon.end()

    assert done.returncode == 1
    assert "another supervisor answers on" in done.stderr
    assert not service.plist.exists()


def test_with_sockets_of_launchd_not_even_a_kill_of_all_refuses_a_client(service):
    assert service.typed("install", "--socket").returncode == 0
    assert plistlib.loads(service.plist.read_bytes())["Sockets"]["Listeners"]["SockServiceName"] == str(
        service.daemon.port
    )
    first = service.kill_all()
    waiting = [request(service.daemon.port) for _ in range(20)]  # nobody is there but launchd's socket

    assert [answer(client) for client in waiting] == [b"HTTP/1.1 200 OK"] * 20
    assert service.until(lambda status: status["status"] == "healthy")["pid"] != first["pid"]
    assert any(line["event"] == "listener.activated" for line in service.daemon.log())


def test_what_the_supervisor_says_before_it_can_log_is_kept_and_bounded(service):
    last_words = service.daemon.folder / "logs/launchd.log"
    last_words.parent.mkdir(mode=0o700)
    last_words.write_bytes(b"old\n" * 100_000)
    last_words.chmod(0o600)
    assert service.typed("install").returncode == 0

    assert last_words.stat().st_size <= 1 << 16


@pytest.mark.xdist_group("litellm-2")
@pytest.mark.skipif(not LITELLM.exists(), reason="no LiteLLM; run: make litellm")
def test_with_the_real_litellm_and_launchd_s_socket_a_kill_of_all_costs_no_answer(tmp_path):
    service = Service(tmp_path, str(LITELLM))
    try:
        done = service.typed("install", "--socket")
        assert done.returncode == 0, done.stdout + done.stderr
        service.kill_all()
        message = {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        answered = httpx.post(f"{service.daemon.url}/v1/messages", json=message, timeout=180)

        assert answered.json()["content"][0]["text"].startswith("hello from echo")
        assert service.typed("uninstall").returncode == 0
        assert service.inhabitants() == []
    finally:
        service.close()
