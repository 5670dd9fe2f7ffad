"""One worker beside plain `litellm` with the same config: requests a second of clients that keep their connections."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx

from benchmarks.number import Number, median
from ccproxy_supervisor.core.plan import worker_env
from daemon import Daemon, free_ports
from load import question, spelled
from real import interpreter, real

CLIENTS, SECONDS, PAIRS = (1, 8, 32), 4.0, 5
REQUEST = spelled("/v1/chat/completions", question("hi", "mock"), None).replace(b"Connection: close\r\n", b"")
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def overhead() -> Iterator[Number]:
    """Interleaved pairs, first one and then the other, so that what the machine does hits both."""
    with real() as daemon, _plain(daemon) as port:
        daemon.start(seconds=180)
        for clients in CLIENTS:
            rounds = [_pair(daemon.port, port, clients, first=number % 2) for number in range(PAIRS + 1)][1:]  # 1: warm
            ours, theirs = zip(*rounds, strict=True)
            ratio = [mine / other for mine, other in rounds]
            told = f"medians {sorted(ours)[PAIRS // 2]:.0f} and {sorted(theirs)[PAIRS // 2]:.0f} requests/s"
            yield median(f"beside plain litellm, {clients} clients", ratio, "x", 0.97, at_least=True, beside=told)


@contextlib.contextmanager
def _plain(daemon: Daemon) -> Iterator[int]:
    """LiteLLM's own command, with the environment that a worker has."""
    [port] = free_ports(1)
    env = worker_env(os.environ, "config.yaml", {}, None)
    command = [str(Path(interpreter()).with_name("litellm")), "--config", "config.yaml", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1"],
        cwd=daemon.folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=10).raise_for_status()
                    break
                time.sleep(0.2)
            yield port
        finally:
            process.kill()


def _pair(ours: int, theirs: int, clients: int, *, first: int) -> tuple[float, float]:
    if first:
        other = rate(theirs, clients)
        return rate(ours, clients), other
    mine = rate(ours, clients)
    return mine, rate(theirs, clients)


def rate(port: int, clients: int, seconds: float = SECONDS) -> float:
    over, counts = time.monotonic() + seconds, [0] * clients

    def client(place: int) -> None:
        with Kept(port) as kept:
            while time.monotonic() < over:
                kept.ask()
                counts[place] += 1

    began = time.monotonic()
    threads = [threading.Thread(target=client, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


class Kept:
    """A client that keeps its connection until it is told to close it."""

    def __init__(self, port: int) -> None:
        self._port, self._sock = port, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sock:
            self._sock.close()

    def ask(self) -> None:
        sock = self._sock = self._sock or socket.create_connection(("127.0.0.1", self._port), timeout=60)
        sock.sendall(REQUEST)
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536) or b"\r\n\r\n"
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), data
        length = int(LENGTH.search(head)[1])  # type: ignore[index]
        while len(body) < length:
            part = sock.recv(65536)
            assert part, "cut"
            body += part
        if b"connection: close" in head.lower():
            sock.close()
            self._sock = None
