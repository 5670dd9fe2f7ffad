"""What was read and is not on disk yet: little while the disk works, bounded while it does not."""

from __future__ import annotations

import threading
import time
from mmap import mmap
from typing import NamedTuple

from ccproxy_supervisor.launcher.spool import Lane, Spool

CHUNK = 256 << 10  # the size of the buffers that are handed round, for what finds no room in a spool
SHALLOW = 4 << 20  # what may wait for a disk that works: less has reader and writer wait for each other
LIMIT = 16 << 20  # what may wait for one that does not
RESERVE = 1 << 20  # beside that, for the supervisor's own lines
PATIENCE = 1.0  # seconds that readers wait for a disk in all
HEALTHY = 16 << 20  # bytes a second: a disk this fast earns the patience back, so nothing of a flood is lost
SETTLED = 1.0  # seconds without work after which spare buffers are given back


class Piece(NamedTuple):
    """Whole lines of *log*: `data[start:end]`. Once it is dealt with, so is *lane* up to *position*; *last* was read out."""

    log: str
    data: bytes | bytearray | mmap
    start: int
    end: int
    lane: Lane | None = None
    position: int = 0
    last: Spool | None = None

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def cost(self) -> int:
        """Roughly the memory it holds: of a short line, most of it is bookkeeping."""
        return self.end - self.start + 256


class Backlog:
    """Between those who read and the one who writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._filled, self._room = threading.Condition(self._lock), threading.Condition(self._lock)
        self._pieces: list[Piece] = []
        self._spare: list[bytearray] = []
        self._held, self._patience = 0, PATIENCE
        self._woken = self._closed = False

    def put(self, piece: Piece) -> bool:
        """Take *piece* at once or not at all."""
        with self._lock:
            return self._put(piece, LIMIT + RESERVE)

    def offer(self, piece: Piece) -> bool:
        """Take *piece*: as long as there is patience when little is waiting, else while there is room."""
        with self._lock:
            while self._held + piece.cost > SHALLOW and self._held and self._patience > 0 and not self._closed:
                began = time.monotonic()
                self._room.wait(self._patience)
                self._patience -= time.monotonic() - began
            return self._put(piece, LIMIT)

    def _put(self, piece: Piece, limit: int) -> bool:
        if self._closed or self._held + piece.cost > limit:
            return False
        self._pieces.append(piece)
        self._held += piece.cost
        if len(self._pieces) == 1:
            self._filled.notify()
        return True

    def take(self, timeout: float | None) -> list[Piece] | None:
        """The next pieces as soon as there are any; empty after *timeout* or `wake`, None at the end."""
        with self._lock:
            if not self._has_news() and self._spare and not self._filled.wait_for(self._has_news, SETTLED):
                self._spare.clear()
            self._filled.wait_for(self._has_news, timeout)
            self._woken, size, count = False, 0, 0
            while count < len(self._pieces) and size < SHALLOW:
                size += self._pieces[count].cost
                count += 1
            taken, self._pieces = self._pieces[:count], self._pieces[count:]
            return taken or (None if self._closed else [])

    def done(self, pieces: list[Piece]) -> bool:
        """*pieces* are dealt with; returns whether nothing is left."""
        for piece in pieces:
            if piece.last is not None:
                piece.last.remove()
        with self._lock:
            for piece in pieces:
                self._held -= piece.cost
                self._patience = min(PATIENCE, self._patience + piece.size / HEALTHY)
                if isinstance(piece.data, bytearray):
                    self._spare.append(piece.data)
            self._room.notify_all()
            return self._held == 0

    def buffer(self) -> bytearray:
        """A buffer of `CHUNK` bytes to read into; used again because fresh pages cost more than the reading."""
        with self._lock:
            return self._spare.pop() if self._spare else bytearray(CHUNK)

    def wake(self) -> None:
        """Make `take` return."""
        with self._lock:
            self._woken = True
            self._filled.notify()

    def close(self) -> None:
        """Take nothing any more; `take` hands out what is left."""
        with self._lock:
            self._closed = True
            self._filled.notify()
            self._room.notify_all()

    def _has_news(self) -> bool:
        return bool(self._pieces) or self._woken or self._closed
