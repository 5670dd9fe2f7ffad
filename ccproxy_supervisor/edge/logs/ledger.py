"""What is being written to which log, for the next supervisor to tell whether it was: no line lost, and none twice."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from ccproxy_supervisor.core.model import LOGS
from ccproxy_supervisor.launcher.spool import Lane

SIZE = 1 << 14
HEAD = struct.Struct("@QQQQQ")  # entries that count; log, inode, its size before, bytes to be written
ENTRY = struct.Struct("@QQ")  # a lane's key, and up to where it is in the log then
WORD = struct.Struct("@Q")
MOST = (SIZE - HEAD.size) // ENTRY.size


class Ledger:
    """One entry, made before each write and struck out after it. Raises OSError at the start only."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(fd).st_size != SIZE:
                os.ftruncate(fd, 0)
                os.pwrite(fd, bytes(SIZE), 0)  # a hole could end us when the disk is full
            self._memory = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)

    def begin(self, log: str, inode: int, size: int, total: int, ends: Mapping[Lane, int]) -> None:
        entries = [(lane.key, position) for lane, position in ends.items()][:MOST]
        HEAD.pack_into(self._memory, 0, 0, LOGS.index(log), inode, size, total)
        for number, entry in enumerate(entries):
            ENTRY.pack_into(self._memory, HEAD.size + number * ENTRY.size, *entry)
        WORD.pack_into(self._memory, 0, len(entries))

    def end(self) -> None:
        WORD.pack_into(self._memory, 0, 0)

    def settle(self, folder: Path, lane: Callable[[int], Lane | None]) -> None:
        """Finish what an earlier supervisor was killed in: what it wrote whole counts as written, what it began is taken
        back. *lane* finds one by its key."""
        count, log, inode, size, total = HEAD.unpack_from(self._memory)
        path = folder / f"{LOGS[log % len(LOGS)]}.log"
        try:
            seen = path.lstat()
            if count and seen.st_ino == inode and size < seen.st_size < size + total:
                os.truncate(path, size)
        except OSError:
            count = 0
        if count and seen.st_ino == inode and seen.st_size >= size + total:
            for number in range(min(count, MOST)):
                key, position = ENTRY.unpack_from(self._memory, HEAD.size + number * ENTRY.size)
                if found := lane(key):
                    found.done(min(position, found.end))
        self.end()
