"""The log path beside `cat > file`, supervisord and pm2: the same lines into a pipe of each, by turns."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.logs import LINE, LINES, TALKER, Run, cat, expected_checksum, sink
from benchmarks.number import Number, median
from benchmarks.peers import Peer, Pm2, Supervisord, beside, under, wait_for

SIZE = 512_000_000 // LINE * LINE
ROUNDS = 5


def logs() -> Iterator[Number]:
    """512 MB of 120-byte lines in blocks of 64 KiB, rotation on; each round is cat's, ours and the peers'."""
    expected = expected_checksum(SIZE)
    missing = {kind: beside(lambda _: "", (kind,)) for kind in (Supervisord, Pm2)}
    peers = [kind for kind, told in missing.items() if told.strip() == kind.name]
    cats, ours = [], []
    others: dict[type[Peer], list[Run]] = {kind: [] for kind in peers}
    for _ in range(ROUNDS):
        cats.append(_in_a_folder(lambda folder: cat(folder, SIZE)))
        ours.append(_in_a_folder(lambda folder: sink(folder, SIZE, expected)))
        for kind, runs in others.items():
            os.sync()
            runs.append(_peer(kind))
    ratio = lambda runs: [run.rate / peer.rate for run, peer in zip(runs, cats, strict=True)]  # noqa: E731
    told = [f"{kind.name} {statistics.median(ratio(runs)):.2f}" for kind, runs in others.items()]
    cpu = [f"{kind.name} {statistics.median(run.cpu for run in runs):.2f}" for kind, runs in others.items()]
    away = [told for kind, told in missing.items() if kind not in peers]
    yield median("logs, 512 MB of 120-byte lines", (run.rate for run in ours), "MB/s")
    yield median(
        "  beside cat > file, round by round", ratio(ours), "x", 0.9, at_least=True, beside=", ".join(told + away)
    )
    cats_cpu = f"cat {statistics.median(run.cpu for run in cats):.2f}"
    yield median(
        "  CPU seconds a GB, of the whole process",
        (run.cpu for run in ours),
        "s",
        1,
        beside=", ".join([cats_cpu, *cpu]),
    )
    yield Number("  bytes lost", sum(run.lost for run in ours), "", 0)


def _in_a_folder(measure: Callable[[Path], Run]) -> Run:
    folder = Path(tempfile.mkdtemp(prefix="logs-"))
    os.sync()
    try:
        return measure(folder)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _talker(folder: Path) -> Iterator[Path]:
    """Prepare a child that waits for somebody to open `go`, and stays when it has written all."""
    script = TALKER.replace("exec(sys.argv[1])", LINES).replace("sys.argv[2]", str(SIZE))
    script = script.replace('os.write(2, b"."), os.read(0, 1)', 'open("ready", "w").close(), open("go").read()')
    (folder / "talker.py").write_text(f"{script}\nimport time\ntime.sleep(1000)\n")
    os.mkfifo(folder / "go")
    yield folder


def _peer(kind: type[Peer]) -> Run:
    import sys
    import time

    with under(kind, lambda folder: [sys.executable, str(folder / "talker.py")], _talker) as (peer, folder):
        wait_for((folder / "ready").exists, 60)
        before, began = peer.cpu, time.perf_counter()
        (folder / "go").write_text("go")
        wait_for(lambda: peer.written >= SIZE, 300)
        return Run(SIZE / (time.perf_counter() - began) / 1e6, (peer.cpu - before) / SIZE * 1e9)
