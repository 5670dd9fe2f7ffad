"""A stub that does nothing but say when it began: what the supervisor itself needs between a death and a birth."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.number import Number, median
from benchmarks.peers import Peer, beside, under
from daemon import Daemon

ROUNDS, PEERS_ROUNDS = 50, 10
STUB = """#!/bin/sh
echo $$ > births
exec sleep 1000
"""


def respawn() -> Iterator[Number]:
    """From `kill -9` of a worker to the first instruction of the next; supervisord's and pm2's in the same run."""
    none_at_all = {"first_delay": "0s", "longest_delay": "0s", "jitter": 0}
    with Daemon(restart=none_at_all) as daemon, _born(daemon.folder) as births:
        daemon.change(proxy={"python": str(daemon.folder / "stub")})
        daemon.start(wait=None)
        delays = _delays(births, ROUNDS)
        alone = _bare(daemon.folder, births)
    yield median(
        "respawn of a stub: death to the next one's first instruction", delays, "ms", 5, beside=beside(_peer)
    )  # fmt: skip
    yield median("  the limit: subprocess.Popen of it, from a small process", alone, "ms")


def _peer(kind: type[Peer]) -> str:
    with under(kind, lambda folder: [str(folder / "stub")], _born) as (_, births):
        return f"{sorted(_delays(births, PEERS_ROUNDS))[PEERS_ROUNDS // 2]:.1f} ms"


@contextmanager
def _born(folder: Path) -> Iterator[int]:
    """Yields a descriptor on which each stub says its process' number."""
    stub, births = folder / "stub", folder / "births"
    stub.write_text(STUB)
    stub.chmod(0o755)
    os.mkfifo(births)
    descriptor = os.open(births, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _delays(births: int, rounds: int) -> list[float]:
    """Milliseconds."""
    worker, delays = int(os.read(births, 64)), []
    for _ in range(rounds):
        time.sleep(0.1)
        os.kill(worker, signal.SIGKILL)
        killed = time.perf_counter()
        worker = int(os.read(births, 64))
        delays.append((time.perf_counter() - killed) * 1000)
    return delays


def _bare(folder: Path, births: int) -> list[float]:
    delays = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with subprocess.Popen([folder / "stub"], cwd=folder, start_new_session=True) as stub:
            os.read(births, 64)
            delays.append((time.perf_counter() - began) * 1000)
            stub.kill()
    return delays
