"""One worker's output: its pipes and its last lines."""

from __future__ import annotations

import fcntl
import math
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap

import anyio.to_thread

from ccproxy_supervisor.core.lines import last_lines
from ccproxy_supervisor.launcher.spool import STREAMS, Lane, Spool

PIPE = 1 << 20  # bytes a pipe is made to hold, where the system lets us
TAIL, LINES, WIDTH = 16 << 10, 20, 500


@dataclass(eq=False, slots=True)
class Pipe:
    """Our end of one stream; *carry* is its unfinished line, to be passed on at *due*. What is read is kept in *lane*."""

    log: str
    fd: int
    capture: Capture
    lane: Lane | None = None
    carry: bytes = b""
    held: int = 0  # how much of the end of *lane* it is
    due: float = math.inf


class Capture:
    """The pipes of one worker; *fds* are the ends to hand to it, by stream. Raises OSError.

    *ours* are the other ends of a worker that has its own already; without any it is dead, and *spool* is all there is.
    """

    def __init__(
        self, dismiss: Callable[[list[Pipe]], None], spool: Spool | None, ours: Mapping[str, int] | None = None
    ) -> None:
        self.spool, self._dismiss = spool, dismiss
        self.fds: dict[str, int] = {}
        self.pipes: list[Pipe] = []
        try:
            for log in STREAMS if ours is None else ours:
                fd = self._open(log) if ours is None else ours[log]
                self.pipes.append(Pipe(log, fd, self, spool.lanes[log] if spool else None))
        except OSError:  # too many open files
            self.close_child_ends()
            for pipe in self.pipes:
                os.close(pipe.fd)
            raise
        self._left, self._all_ended = len(self.pipes), threading.Event()
        self._last: tuple[bytes, ...] = ()

    def _open(self, log: str) -> int:
        ours, self.fds[log] = os.pipe()
        os.set_blocking(ours, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # the user's share of pipe memory is spent: the usual size works too
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE)
        return ours

    @property
    def ours(self) -> dict[str, int]:
        """Our ends, by stream: a worker keeps them too, to read them itself when there is no supervisor."""
        return {pipe.log: pipe.fd for pipe in self.pipes}

    def close_child_ends(self) -> None:
        while self.fds:
            os.close(self.fds.popitem()[1])

    def close(self) -> None:
        """Have read what the pipes hold now, then let go of them, whoever else still writes."""
        self.close_child_ends()
        self._dismiss(self.pipes)

    async def drained(self, timeout: float) -> bool:
        """Wait until every process has closed its ends and all is read; False after *timeout* seconds."""
        if self._all_ended.is_set():
            return True
        try:
            return await anyio.to_thread.run_sync(self._all_ended.wait, timeout, abandon_on_cancel=True)
        except RuntimeError:  # no thread to be had: what is there now must do
            return self._all_ended.is_set()

    def tail(self) -> tuple[str, ...]:
        """The last lines of all streams in order of arrival, secrets hidden."""
        return last_lines(self._last, LINES, WIDTH)

    def saw(self, data: bytes | bytearray | mmap, start: int, end: int) -> None:
        """The reader passed on `data[start:end]`."""
        if start < (cut := end - TAIL):
            start = data.find(b"\n", cut, end) + 1 or cut
        with memoryview(data) as whole:
            self._last = (*self._last[1 - LINES :], bytes(whole[start:end]))

    def ended(self, pipe: Pipe) -> bool:
        """The reader is done with *pipe*; returns whether that was the last."""
        self._left -= 1
        if self._left == 0:
            self._all_ended.set()
        return self._left == 0
