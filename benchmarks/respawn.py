"""A stub that does nothing but say when it began: what the supervisor itself needs between a death and a birth."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from benchmarks.number import Number, median
from daemon import Daemon

ROUNDS = 50
STUB = """#!/bin/sh
echo $$ > births
exec sleep 1000
"""


def respawn() -> Iterator[Number]:
    """From `kill -9` of a worker to the first instruction of the next."""
    none_at_all = {"first_delay": "0s", "longest_delay": "0s", "jitter": 0}
    with Daemon(restart=none_at_all) as daemon:
        daemon.write("stub", STUB)
        stub, births = daemon.folder / "stub", daemon.folder / "births"
        stub.chmod(0o755)
        os.mkfifo(births)
        daemon.change(proxy={"python": str(stub)})
        daemon.start(wait=None)
        delays = []
        with open(os.open(births, os.O_RDWR), encoding="ascii") as said:
            worker = int(said.readline())
            for _ in range(ROUNDS):
                time.sleep(0.1)
                os.kill(worker, signal.SIGKILL)
                killed = time.perf_counter()
                worker = int(said.readline())
                delays.append((time.perf_counter() - killed) * 1000)
    yield median(
        "respawn of a stub: death to the next one's first instruction", delays, "ms", 10,
        beside="runit 4, pm2 10, supervisord 1011",
    )  # fmt: skip
