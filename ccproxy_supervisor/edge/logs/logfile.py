"""One log on disk."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ccproxy_supervisor.core.rotation import fit
from ccproxy_supervisor.edge.logs.backlog import CHUNK, Piece
from ccproxy_supervisor.edge.logs.ledger import Ledger
from ccproxy_supervisor.launcher.spool import Lane

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST = 64  # pieces in one call; and no megabytes, for which some kernels take six times the CPU


class LogFile:
    """Everything raises OSError; after that `close`, and `ready` begins anew."""

    def __init__(self, folder: Path, log: str, ledger: Ledger | None = None) -> None:
        self.log, self.path, self._ledger = log, folder / f"{log}.log", ledger
        self.size = self.written = 0
        self._fd, self._identity = -1, (0, 0)

    def ready(self) -> bool:
        """Be open, and know the size; returns whether it had been open, but somebody moved or removed the file."""
        try:
            seen = os.stat(self.path, follow_symlinks=False)
            moved = self._fd >= 0 and (seen.st_dev, seen.st_ino) != self._identity
        except FileNotFoundError:
            moved = self._fd >= 0
            self.close()
        if self._fd < 0 or moved:
            self._open()
        else:
            self.size = seen.st_size
        return moved

    def last_write(self) -> float | None:
        """When the file was last written to, as wall seconds; None: it does not exist."""
        try:
            return self.path.lstat().st_mtime
        except OSError:
            return None

    def append(self, pieces: list[Piece], limit: int, rotate: Callable[[], bool]) -> None:
        """Write whole lines, going on in a new file where *limit* would be exceeded, as far as *rotate* can."""
        room = limit - self.size
        batch: list[memoryview] = []
        weight, ends = 0, dict[Lane, int]()
        for piece in pieces:
            start = piece.start
            while start < piece.end:
                cut = fit(piece.data, start, piece.end, room, fresh=room == limit)
                if cut > start:
                    batch.append(memoryview(piece.data)[start:cut])
                    weight += cut - start
                    room, start = room - (cut - start), cut
                    if piece.lane is not None:
                        ends[piece.lane] = max(ends.get(piece.lane, 0), piece.position - (piece.end - cut))
                if start < piece.end or len(batch) == _MOST or weight >= CHUNK // 2:
                    self._write(batch, ends)
                    batch, weight, ends = [], 0, {}
                if start < piece.end:
                    room = limit if rotate() else sys.maxsize
        self._write(batch, ends)

    def rename(self, name: str) -> None:
        """Give the file another name; `ready` then begins a new one."""
        os.rename(self.path, self.path.with_name(name))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self.close()
        try:
            self._fd = os.open(self.path, _FLAGS, 0o600)
        except FileNotFoundError:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.path, _FLAGS, 0o600)
        seen = os.fstat(self._fd)
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(f"{self.path} is not a regular file")
        if seen.st_mode & 0o077:
            os.fchmod(self._fd, 0o600)
        self._identity, self.size = (seen.st_dev, seen.st_ino), seen.st_size
        if self.size and os.pread(self._fd, 1, self.size - 1) != b"\n":  # a writer before us was killed in mid-line
            self.size += os.write(self._fd, b"\n")

    def _write(self, batch: list[memoryview], ends: dict[Lane, int]) -> None:
        """Write *batch*, which brings lanes to their *ends*."""
        if self._ledger is None or not ends:
            return self._write_all(batch)
        self._ledger.begin(self.log, self._identity[1], self.size, sum(map(len, batch)), ends)
        try:
            self._write_all(batch)
            for lane, end in ends.items():
                lane.done(end)
        finally:
            self._ledger.end()

    def _write_all(self, batch: list[memoryview]) -> None:
        whole = self.size
        while batch:
            try:
                count = os.writev(self._fd, batch)
            except OSError:
                self._cut_back(whole)
                raise
            self.size += count
            self.written += count
            while batch and count >= len(batch[0]):
                count -= len(batch.pop(0))
            if batch:  # a short write: the disk is full, and the next call will say so
                whole = self.size - count + bytes(batch[0][:count]).rfind(b"\n") + 1
                batch[0] = batch[0][count:]

    def _cut_back(self, whole: int) -> None:
        """Take back the beginning of a line that could not be finished, or the next line would be glued to it."""
        if self.size > whole:
            with suppress(OSError):
                os.ftruncate(self._fd, whole)
                self.written -= self.size - whole
                self.size = whole
