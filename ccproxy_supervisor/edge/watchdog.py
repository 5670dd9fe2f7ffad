"""A thread that ends the process when its event loop is stuck, so that launchd starts a living one."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from anyio import current_time, sleep

TICK = 5.0  # seconds; twelve wake-ups a minute are nothing
LIMIT = 30.0  # seconds of silence
EX_SOFTWARE = 70
STDERR = 2
COUNTS = sys.platform != "darwin"  # whether the kernel's count of processor time can be trusted with a life
DUMP_TIME = 5.0  # seconds a dump may take, then the kernel ends the process


class Watchdog:
    """Counts its own ticks, never a clock: when the machine sleeps or the process is stopped, it sleeps too."""

    def __init__(self, stack_file: Path, tick: float = TICK, limit: float = LIMIT) -> None:
        self._file, self._tick = stack_file, tick
        self._limit, self._patience = limit, max(2, round(limit / tick))
        self._beats = 0
        self._stop = threading.Event()
        self._fd = STDERR

    def start(self) -> str:
        """Open the private stack file and begin to watch; return what a predecessor that was stuck left in it. Without a disk
        for that file it watches all the same, and says what it saw on standard error."""
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
        left = ""
        with suppress(OSError):
            self._open()
            left = os.pread(self._fd, 1 << 16, 0).decode(errors="replace")
            os.ftruncate(self._fd, 0)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return left

    def restore(self) -> bool:
        """Make the file anew if it is gone; returns whether it was. Raises OSError."""
        if os.path.lexists(self._file):
            return False
        self._open()
        return True

    def _open(self) -> None:
        """A new file takes the number of the one before, in one step: a dump may be on its way to it."""
        opened = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND, 0o600)
        if self._fd != STDERR:
            os.dup2(opened, self._fd, inheritable=False)
            os.close(opened)
            return
        self._fd = opened
        faulthandler.register(signal.SIGPROF, self._fd, all_threads=True, chain=True)

    def beat(self) -> None:
        """Say that the event loop is alive."""
        self._beats += 1

    def close(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        seen, silent = self._beats, 0
        self._arm(self._limit)
        while not self._stop.wait(self._tick):
            self._arm(self._limit)
            seen, silent = (self._beats, 0) if self._beats != seen else (seen, silent + 1)
            if silent >= self._patience:
                self._end()
        self._arm(0)

    def _arm(self, seconds: float) -> None:
        """Have the kernel dump and end a process that computes for so long without letting this thread run.

        Native code need not give the interpreter back. Processor time, for a real-time timer would run on, and kill,
        while the process is stopped. Not seen: native code that keeps the interpreter and waits. Not on macOS, whose
        timer was seen to go off early on Apple silicon: it would end a daemon that is well.
        """
        if COUNTS:
            signal.setitimer(signal.ITIMER_PROF, seconds)

    def _end(self) -> None:
        # First the timer: a dump that blocks (full pipe, dead disk) must not save the process. SIGALRM's default
        # action is the kernel's, it needs nobody's cooperation.
        signal.setitimer(signal.ITIMER_REAL, DUMP_TIME)
        with suppress(Exception):  # nothing may stand between here and the exit
            faulthandler.dump_traceback(self._fd, all_threads=True)
        os._exit(EX_SOFTWARE)


async def pulse(tick: float, beat: Callable[[], object], lag: Callable[[float], object]) -> None:
    """Run for ever in the event loop: call *beat* each *tick* and tell *lag* by how many seconds it came late."""
    while True:
        due = current_time() + tick
        await sleep(tick)
        lag(max(0.0, current_time() - due))
        beat()
