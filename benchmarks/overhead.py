"""One worker beside plain `litellm` with the same config: requests a second of clients that keep their connections."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import psutil

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
    with real() as daemon, _plain(daemon) as (port, plain):
        daemon.start(seconds=180)
        places = ((daemon.port, daemon.pids()[0]), (port, plain))
        for clients in CLIENTS:
            rounds = [_pair(places, clients, first=number % 2) for number in range(PAIRS + 1)][1:]  # the first warms
            rates = [ours.rate / theirs.rate for ours, theirs in rounds]
            costs = [ours.cpu / theirs.cpu for ours, theirs in rounds]
            ours, theirs = ([each[place].rate for each in rounds] for place in (0, 1))
            told = f"medians {statistics.median(ours):.0f} and {statistics.median(theirs):.0f} requests/s"
            yield median(f"beside plain litellm, {clients} clients", rates, "x", 0.97, at_least=True, beside=told)
            yield median("  CPU time a request, beside plain litellm", costs, "x")


@dataclass(frozen=True)
class Work:
    """*rate*: requests a second. *cpu*: seconds of the server a request, which says more where others are busy too."""

    rate: float
    cpu: float


@contextlib.contextmanager
def _plain(daemon: Daemon) -> Iterator[tuple[int, int]]:
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
            yield port, process.pid
        finally:
            process.kill()


def _pair(places: tuple[tuple[int, int], tuple[int, int]], clients: int, *, first: int) -> tuple[Work, Work]:
    done = [work(*places[place], clients) for place in (first, 1 - first)]
    return done[first], done[1 - first]


def work(port: int, pid: int, clients: int, seconds: float = SECONDS) -> Work:
    over, counts = time.monotonic() + seconds, [0] * clients

    def client(place: int) -> None:
        with Kept(port) as kept:
            while time.monotonic() < over:
                kept.ask()
                counts[place] += 1

    began, before = time.monotonic(), _cpu(pid)
    threads = [threading.Thread(target=client, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Work(sum(counts) / (time.monotonic() - began), (_cpu(pid) - before) / sum(counts))


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


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
