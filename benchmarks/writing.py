"""The log path beside `cat > file`, in the table's terms."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.logs import LINE, Run, cat, expected_checksum, sink
from benchmarks.number import Number, median

SIZE = 512_000_000 // LINE * LINE
ROUNDS = 5


def logs() -> Iterator[Number]:
    """512 MB of 120-byte lines, rotation on."""
    expected = expected_checksum(SIZE)
    ours: list[Run] = []
    peers: list[Run] = []
    for _ in range(ROUNDS):
        for runs, measure in (
            (peers, lambda folder: cat(folder, SIZE)),
            (ours, lambda folder: sink(folder, SIZE, expected)),
        ):
            folder = Path(tempfile.mkdtemp(prefix="logs-"))
            os.sync()
            try:
                runs.append(measure(folder))
            finally:
                shutil.rmtree(folder)
    rate = statistics.median(run.rate for run in peers)
    yield median("logs, 512 MB of 120-byte lines", (run.rate for run in ours), "MB/s", beside=f"cat > file {rate:.0f}")
    ratio = statistics.median(run.rate for run in ours) / rate
    yield Number(
        "  beside cat > file", ratio, "x", 0.7, at_least=True, beside="supervisord 0.68, pm2 0.16, s6-log 0.13"
    )
    yield median("  CPU seconds a GB", (run.cpu for run in ours), "s", 1, beside="supervisord 0.94")
    yield Number("  bytes lost", sum(run.lost for run in ours), "", 0)
