"""Timers and clocks."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from itertools import pairwise

import anyio
import psutil

from ccproxy_supervisor.edge.wake import read_clocks
from ccproxy_supervisor.selftest.step import Result, judged, noted

NAP, NAPS = 0.05, 40  # seconds, and how often
LATE = 0.05  # seconds: a probe that is later than this by the median would be late by its own clock
BURN = 0.4  # seconds of processor time


def timers() -> Result:
    """App Nap and the coalescing of timers show as lateness."""
    late = sorted(anyio.run(_lateness))
    middle, worst = statistics.median(late) * 1000, late[-1] * 1000
    return judged(
        middle < LATE * 1000, f"{NAPS} timers of {NAP * 1000:.0f} ms: late by {middle:.1f} ms, at worst {worst:.0f}"
    )


async def _lateness() -> list[float]:
    late = []
    for _ in range(NAPS):
        due = time.monotonic() + NAP
        await anyio.sleep(NAP)
        late.append(time.monotonic() - due)
    return late


def clocks() -> Result:
    seen = [read_clocks()]
    for _ in range(3):
        time.sleep(0.1)
        seen.append(read_clocks())
    apart = [(late.through - early.through) - (late.awake - early.awake) for early, late in pairwise(seen)]
    advanced = all(late.awake > early.awake for early, late in pairwise(seen))
    return judged(
        advanced and max(map(abs, apart)) < 0.05, f"awake and through differ by {max(map(abs, apart)) * 1e3:.2f} ms"
    )


def speed() -> Result:
    """A job that macOS throttles is slower than its caller."""
    until, count = time.perf_counter() + 0.5, 0
    while time.perf_counter() < until:
        count += 1
    return noted(f"{count / 500:.0f} turns a millisecond, nice {os.nice(0)}")


def processor_timer() -> Result:
    """Not counted on by macOS's watchdog; this tells whether it might be."""
    early = []
    for _ in range(3):
        fired: list[float] = []
        begun = time.process_time()
        signal.signal(signal.SIGPROF, lambda *_, fired=fired: fired.append(time.process_time()))
        signal.setitimer(signal.ITIMER_PROF, BURN)
        while not fired and time.process_time() - begun < 5 * BURN:
            pass
        signal.setitimer(signal.ITIMER_PROF, 0)
        early.append((fired[0] if fired else float("inf")) - begun)
    said = ", ".join(f"{each:.2f}" for each in early)
    return noted(f"asked for {BURN:g} s of processor time, came after {said} s")


def birth() -> Result:
    """Who a process is, is told by its number and when it was born."""
    before = time.time()
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        seen = {process.create_time(), psutil.Process(child.pid).create_time()}
        child.communicate(b"\n")
    off = min(seen) - before
    return judged(
        len(seen) == 1 and -1.5 < off < 10, f"read twice the same: {len(seen) == 1}; {off:+.2f} s from the clock"
    )
