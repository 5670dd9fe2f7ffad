"""Two workers beside one: requests a second of real LiteLLM's mock model, the clients being cheap.

A round is one, two, one: it counts if nobody else was busy before or after, and both times with one worker were alike.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from benchmarks.number import Number, median
from daemon import Daemon
from load import judged, question, spelled
from real import real

CLIENTS, SECONDS = 16, 6.0
ROUNDS, ATTEMPTS = 3, 12  # wanted, at most
ALIKE = 1.1  # what the faster time with one worker may be of the slower one
FREE = 1.8  # what two empty loops must reach, or others were busy on the machine and the round says nothing
REQUEST = spelled("/v1/chat/completions", question("hi", "mock"), None)


def throughput() -> Iterator[Number]:
    """Closed loops over plain sockets: less than a hundredth of a request's CPU time is the clients'."""
    rounds: list[tuple[float, float, float]] = []
    with real(proxy={"workers": 1}) as one, real(proxy={"workers": 2}) as two:
        for daemon in (one, two):
            daemon.start(seconds=180)
            _rate(daemon)  # warm
        for _ in range(ATTEMPTS):
            before, first, both, second = _spin(2) / _spin(1), _rate(one), _rate(two), _rate(one)
            limit = min(before, _spin(2) / _spin(1)) if max(first, second) < ALIKE * min(first, second) else 0.0
            rounds.append(((first + second) / 2, both, limit))
            if sum(limit > FREE for *_, limit in rounds) == ROUNDS:
                break
    quiet = [each for each in rounds if each[2] > FREE]
    alone, both, limits = zip(*(quiet or rounds), strict=True)
    yield median("one worker", alone, "requests/s")
    yield median("two workers", both, "requests/s")
    ratio = [pair / single for single, pair, _ in quiet or rounds]
    told = f"in {len(quiet)} of {len(rounds)} rounds two cores were to be had" + ("" if quiet else "; no verdict")
    target = 1.8 if quiet else None
    yield median("two workers beside one", ratio, "x", target, at_least=True, beside=told)
    yield median("  the limit: two empty loops beside one, no clients", limits, "x")


def _spin(processes: int) -> float:
    """Rounds that so many loops turn in two seconds: what the machine has to give at this moment."""
    turn = "import time\nover, n = time.monotonic() + 2, 0\nwhile time.monotonic() < over: n += 1\nprint(n)"
    started = [subprocess.Popen([sys.executable, "-c", turn], stdout=subprocess.PIPE) for _ in range(processes)]
    return sum(float(process.communicate()[0]) for process in started)


def _rate(daemon: Daemon) -> float:
    over = time.monotonic() + SECONDS
    counts = [0] * CLIENTS

    def client(place: int) -> None:
        while time.monotonic() < over:
            with socket.create_connection(("127.0.0.1", daemon.port), timeout=60) as sock:
                sock.sendall(REQUEST)
                data = b""
                while part := sock.recv(65536):
                    data += part
            trouble, _ = judged(data)
            assert not trouble, trouble
            counts[place] += 1

    began = time.monotonic()
    threads = [threading.Thread(target=client, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)
