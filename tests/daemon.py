"""A real supervisor process in a home of its own, with the stub or with real LiteLLM."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx
import psutil

from ccproxy_supervisor.cli.common import NotRunning, ask
from ccproxy_supervisor.edge.home import Home
from ports import free_ports

ROOT = Path(__file__).parents[1]
STUB = ROOT / "tests" / "stub"
LITELLM_CONFIG = """
model_list:
  - model_name: echo
    litellm_params: {model: openai/echo, api_key: none, mock_response: "hello from echo, word by word, slowly"}
litellm_settings: {disable_hf_tokenizer_download: true}
"""


def gone(pid: int) -> bool:
    """Dead, whether or not somebody has collected it: an orphan's new parent may be slow."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pid: int, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there after {seconds} s"
        time.sleep(0.01)


class Daemon:
    """*settings* are merged, section by section, over quick ones; without *python* LiteLLM is the stub."""

    def __init__(
        self, python: str | None = None, litellm: str = LITELLM_CONFIG, folder: Path | None = None,
        **settings: dict[str, Any],
    ) -> None:  # fmt: skip
        self.folder = folder or Path(tempfile.mkdtemp(prefix="cc-"))
        self.port, self.admin_port = free_ports(2)
        self.settings: dict[str, dict[str, Any]] = {
            "proxy": {
                "python": python or sys.executable,
                "port": self.port,
                "drain_timeout": "10s",
                "kill_timeout": "2s",
            },
            "restart": {"first_delay": "100ms", "longest_delay": "2s"},
            "health": {"interval": "1s", "timeout": "1s"},
            "admin": {"port": self.admin_port},
            "ollama": {"enabled": False},
        }
        self.real = python is not None
        if not self.real:
            self.settings["proxy"]["env"] = {"PYTHONPATH": str(STUB)}
        self.change(**settings)
        self.write("config.yaml", litellm)
        self.program = ["-m", "ccproxy_supervisor"]
        self.home = Home(self.folder / "supervisor.yaml")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def change(self, **settings: dict[str, Any]) -> None:
        """Merge into supervisor.yaml; nothing is reloaded."""
        for section, values in settings.items():
            mine = self.settings.setdefault(section, {})
            for key, value in values.items():
                mine[key] = {**mine.get(key, {}), **value} if isinstance(value, dict) else value
        self.write("supervisor.yaml", json.dumps(self.settings, indent=1))  # JSON is YAML

    def start(
        self,
        *,
        wait: str | None = "healthy",
        seconds: float = 180.0,
        package: Path = ROOT,
        python: str = sys.executable,
    ) -> Daemon:
        """Start it, from the folder *package*."""
        command = [python, "-W", "error", *self.program, "run"]
        command += ["--config", str(self.home.settings_file)]
        with (self.folder / "said.txt").open("ab") as said:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=package)
        if wait:
            self.until(lambda status: status["status"] == wait, seconds)
        return self

    def last_words(self) -> str:
        logs = [self.folder / "said.txt", *sorted((self.folder / "logs").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}" for log in logs if log.exists())

    def status(self) -> dict[str, Any]:
        return ask(self.home, "GET", "/status")

    def order(self, path: str, body: dict[str, Any] | None = None, timeout: float = 120.0) -> dict[str, Any]:
        return ask(self.home, "POST", path, body, timeout=timeout)

    def until(self, fact: Any, seconds: float = 30.0) -> dict[str, Any]:
        """Return the first status of which *fact* holds."""
        deadline, status = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}\n{self.last_words()}"
            with contextlib.suppress(NotRunning, click.ClickException, FileNotFoundError):  # so far
                status = self.status()
                if fact(status):
                    return status
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s; last status {json.dumps(status, indent=1)}\n{self.last_words()}")

    def saved(self, fact: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Return what a next supervisor would read, once *fact* holds of it: a thread writes it."""
        found: dict[str, Any] = {}

        def holds(_: object) -> Any:
            with contextlib.suppress(LookupError):  # so far
                found.update(json.loads((self.folder / "run" / "state.json").read_text()))
                return fact(found)

        self.until(holds)
        return found

    def pids(self, state: str = "serving") -> list[int]:
        return [worker["pid"] for worker in self.status()["workers"] if worker["state"] == state]

    def pids_by_admin(self, state: str = "serving") -> list[int]:
        """The same, asked where no control socket is needed."""
        document = httpx.get(self.admin_url + "/status", timeout=20).json()
        return [worker["pid"] for worker in document["workers"] if worker["state"] == state]

    def get(self, path: str, timeout: float = 20.0, **more: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=timeout, **more)

    def metrics(self) -> str:
        return httpx.get(self.admin_url + "/metrics", timeout=20).text

    def log(self, name: str = "supervisor") -> list[dict[str, Any]]:
        *lines, _unfinished = (self.folder / "logs" / f"{name}.log").read_text().split("\n")
        return [json.loads(line) for line in lines]

    def end(self) -> int:
        """Stop it as launchd would; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        """Leave nothing behind, however the test went."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for worker in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def workers(self) -> list[psutil.Process]:
        """All that run, and who forks them, whoever looks after them."""
        run = str(self.folder / "run")
        every = psutil.process_iter(["cmdline"])
        return [each for each in every if any(word.startswith(run) for word in each.info["cmdline"] or ())]

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


LONG = 400  # chunks: twenty seconds, unless `enough` is said


def follow(daemon: Daemon, lines: list[str], chunks: int) -> threading.Thread:
    """Read a stream in a thread, and come back when it has begun; *lines* gets every line."""

    def read() -> None:
        query: dict[str, Any] = {"chunks": chunks, "every": 0.05, "until": str(daemon.folder / "enough")}
        with httpx.stream("GET", f"{daemon.url}/stream", params=query, timeout=30) as response:
            lines.extend(line for line in response.iter_lines() if line)

    thread = threading.Thread(target=read)
    thread.start()
    while not lines:
        assert thread.is_alive()
        time.sleep(0.01)
    return thread


def enough(daemon: Daemon) -> None:
    """Let the streams end."""
    (daemon.folder / "enough").touch()
