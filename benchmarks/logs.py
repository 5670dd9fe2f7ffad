"""The log sink against `cat > file`: the same child writes the same lines into a pipe of each, by turns.

python -m benchmarks.logs [--megabytes 512] [--runs 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from ccproxy_supervisor.core.rotation import parse, uncompressed
from ccproxy_supervisor.core.settings import LogSettings
from ccproxy_supervisor.edge.logs import LogSink

LINE, ROUND = 120, 70_000  # bytes in a line; numbered lines in a round, of which the output is made
KEEP = 1000  # besides this the settings are the defaults: with 8 kept files, 512 MB would not all be there to check
SECRET = b"sk-0123456789abcdef0123456789abcdef"
TALKER = """
import os, sys
exec(sys.argv[1])
left, block = int(sys.argv[2]), memoryview(lines())
os.write(2, b"."), os.read(0, 1)
while left > 0:
    for start in range(0, min(left, len(block)), 65536):
        part = block[start:min(start + 65536, left, len(block))]
        while part:
            part = part[os.write(1, part):]
    left -= len(block)
"""
LINES = f"""
def lines():
    text = '%09d INFO:     127.0.0.1:%05d - "POST /v1/chat/completions HTTP/1.1" 200 OK model=ollama_chat/llama3 tokens=%05d'
    made = [(text % (n, 40_000 + n * 7919 % 20_000, n * 104_729 % 99_991)).ljust({LINE - 1}) for n in range({ROUND})]
    return ("\\n".join(made) + "\\n").encode()
"""


@dataclass(frozen=True)
class Run:
    """*rate* in MB/s, *cpu* in seconds per GB: of the whole process, ours, cat or the peer."""

    rate: float
    cpu: float
    lost: int = 0


class Talker:
    """A child that has prepared its lines and waits for the word."""

    def __init__(self, size: int, stdout: int) -> None:
        command = [sys.executable, "-c", TALKER, LINES, str(size)]
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=stdout, stderr=pipe)
        assert self._child.stderr
        assert self._child.stderr.read(1) == b"."

    def go(self) -> float:
        assert self._child.stdin
        self._child.stdin.write(b"!")
        self._child.stdin.flush()
        return time.perf_counter()

    def end(self) -> None:
        self._child.communicate()
        assert self._child.returncode == 0


def cat(folder: Path, size: int) -> Run:
    with (folder / "cat.log").open("wb") as file:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        assert child.stdin
        talker = Talker(size, child.stdin.fileno())
        child.stdin.close()
        began = talker.go()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = status
    talker.end()
    assert (folder / "cat.log").stat().st_size == size
    return Run(size / seconds / 1e6, (usage.ru_utime + usage.ru_stime) / size * 1e9)


def sink(folder: Path, size: int, expected: int, secrets: tuple[bytes, ...] = (), *, compress: bool = False) -> Run:
    (folder / "run").mkdir()
    logs = LogSink(
        folder, LogSettings(keep=KEEP), lambda note: print(f"  {note.event}: {note.fields}"), spools=folder / "run"
    )
    logs.hide(secrets)
    logs.start()
    capture = logs.capture(1)
    talker = Talker(size, capture.fds["stdout"])
    capture.close_child_ends()
    before = time.process_time()
    began = talker.go()
    while (count := logs.counters()["stdout"]).bytes + count.dropped < size:
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    spent = time.process_time() - before
    talker.end()
    if compress:
        while uncompressed(os.listdir(folder)):
            time.sleep(0.1)
        print(f"gzip, afterwards and apart: {cpu_seconds()['log-packer'] * 1e9 / size:.2f} CPU s/GB")
    logs.close()
    lost = size - count.bytes
    assert lost or checksum(folder) == expected, "the rotated files do not hold what was written"
    return Run(size / seconds / 1e6, spent / size * 1e9, lost)


def cpu_seconds() -> dict[str, float]:
    """CPU seconds of each thread of the sink."""
    threads = [each for each in threading.enumerate() if each.name.startswith("log-")]
    return {each.name: time.clock_gettime(time.pthread_getcpuclockid(each.ident or 0)) for each in threads}


def checksum(folder: Path) -> int:
    """Of all that was written, in order."""
    rotated = [(found.stamp, found.number, name) for name in os.listdir(folder) if (found := parse(name))]
    crc = 0
    for name in [*(name for *_, name in sorted(rotated)), "stdout.log"]:
        with gzip.open(folder / name) if name.endswith(".gz") else (folder / name).open("rb") as file:
            while data := file.read(1 << 20):
                crc = zlib.crc32(data, crc)
    return crc


def expected_checksum(size: int) -> int:
    scope: dict[str, object] = {}
    exec(LINES, scope)
    block = scope["lines"]()  # type: ignore[operator]
    assert len(block) == LINE * ROUND
    crc, left = 0, size
    while left > 0:
        crc = zlib.crc32(block[:left], crc)
        left -= len(block)
    return crc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", help="on the disk to be measured; default: the one for temporary files")
    options = parser.parse_args()
    size = options.megabytes * 1_000_000 // LINE * LINE
    expected = expected_checksum(size)
    contestants = {
        "cat > file": lambda folder: cat(folder, size),
        "sink": lambda folder: sink(folder, size, expected),
        "sink, hiding one secret": lambda folder: sink(folder, size, expected, (SECRET,)),
    }
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for number in range(options.runs):
        for name, contestant in contestants.items():
            folder = Path(tempfile.mkdtemp(prefix="logs-", dir=options.folder))
            os.sync()
            try:
                runs[name].append(contestant(folder))
            finally:
                shutil.rmtree(folder)
            run = runs[name][-1]
            print(f"run {number + 1}  {name:24}{run.rate:7.0f} MB/s{run.cpu:7.2f} CPU s/GB", flush=True)
    report(size, runs)
    with tempfile.TemporaryDirectory(prefix="logs-", dir=options.folder) as folder:
        sink(Path(folder), size, expected, compress=True)


def report(size: int, runs: dict[str, list[Run]]) -> None:
    print(f"\n{size / 1e6:.0f} MB of {LINE}-byte lines, default settings, medians of {len(runs['sink'])}:")
    peer = statistics.median(run.rate for run in runs["cat > file"])
    for name, its in runs.items():
        rate, cpu = statistics.median(run.rate for run in its), statistics.median(run.cpu for run in its)
        limits = "  (limits: 0.90 x, 1.00 CPU s/GB, 0 lost)" if name == "sink" else ""
        lost = sum(run.lost for run in its)
        print(f"{name:24}{rate:7.0f} MB/s{rate / peer:6.2f} x{cpu:7.2f} CPU s/GB{lost:5} bytes lost{limits}")


if __name__ == "__main__":
    main()
