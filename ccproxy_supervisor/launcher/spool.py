"""What was read of a worker's output and is in no log yet, in a file that outlives whoever read it.

The supervisor reads while there is one, the worker itself while there is none: who holds the file's lock. A ring for
each stream is mapped into memory, so the kernel keeps what a killed reader had read. Every step is one store of one word:
a read is announced first, with bytes where it will be that no text has, so that the next reader sees whether it was done.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import termios

STREAMS = ("stdout", "stderr", "litellm")
ROOM = 1 << 22  # bytes of a ring
HEAD = 1 << 14  # bytes before them, a page of every machine
MOST = (
    1 << 20
) - 1  # bytes of one read, of more than a pipe holds; its count must fit below the position, see `Lane.read`
BITS = 20
MARK = b"\xff" * 16  # not UTF-8
SPARING = 64 << 10  # an empty ring is begun anew after so much, and the rest of its pages never touched
MAGIC = 0x636370726F787902  # its last byte tells of what size the rings are
WORD = struct.Struct("@Q")


class Full(Exception):  # noqa: N818 - a fact, not an error
    """The ring has no room."""


class Lane:
    """One stream: positions count bytes since the worker's birth; those from *written* to *end* are held."""

    def __init__(self, memory: mmap.mmap, number: int, key: int) -> None:
        self.key, self._memory, self._ring = key, memory, HEAD + ROOM * number
        self._words = memoryview(memory).cast("Q")[
            1 + 3 * number : 4 + 3 * number
        ]  # each stored at once, by one instruction

    @property
    def written(self) -> int:
        """Up to here all is in a log, or was given up."""
        return self._words[0]

    @property
    def end(self) -> int:
        return self._words[1] >> BITS

    @property
    def dropped(self) -> int:
        """Bytes that found no room, since somebody last asked."""
        return self._words[2]

    def done(self, position: int) -> None:
        if position > self.written:
            self._words[0] = position

    def read(self, fd: int) -> int:
        """Read once; returns how much, 0 at the end. Raises `Full` and BlockingIOError."""
        end, written = self.end, self.written
        if end == written and end % ROOM > SPARING:
            written = end = end - end % ROOM + ROOM
            self._words[0] = end
            self._words[1] = end << BITS
        count = min(_waiting(fd) or 1, ROOM - end % ROOM, written + ROOM - end, MOST)
        if count <= 0:
            raise Full
        start = self._ring + end % ROOM
        with memoryview(self._memory) as memory, memory[start : start + count] as place:
            place[: len(MARK)] = MARK[:count]
            self._words[1] = end << BITS | count
            got = 0
            try:
                got = os.readv(fd, [place])
            finally:
                self._words[1] = end + got << BITS
        return got

    def drop(self, fd: int) -> int:
        """Make room in the pipe, not in the ring; returns as `read` does."""
        got = len(os.read(fd, MOST))
        self._words[2] = self.dropped + got
        return got

    def forget_dropped(self) -> None:
        self._words[2] = 0

    def recover(self) -> None:
        """Finish what the last reader was killed in; what makes no sense is given up."""
        end, count = divmod(self._words[1], 1 << BITS)
        start = self._ring + end % ROOM
        begun = self._memory[start : start + min(count, len(MARK))]
        end += count if begun != MARK[: len(begun)] else 0
        self._words[1] = end << BITS
        if not end - ROOM <= self.written <= end:
            self._words[0] = end

    def held(self) -> bytes:
        end, written = self.end, self.written
        at, size = written % ROOM, end - written
        first = self._memory[self._ring + at : self._ring + min(at + size, ROOM)]
        return first + self._memory[self._ring : self._ring + size - len(first)]

    def place(self, count: int) -> tuple[mmap.mmap, int, int] | None:
        """Where the last *count* bytes that were read are: in *memory*, from and to; None if they go over the ring's end. They
        stay there until they are `done`."""
        if not 0 < count <= (self.end - 1) % ROOM + 1:
            return None
        stop = self._ring + (self.end - 1) % ROOM + 1
        return self._memory, stop - count, stop

    def close(self) -> None:
        self._words.release()


class Spool:
    """The lanes of *worker*, by stream. Raises OSError where it cannot be had, and for a file that is none."""

    def __init__(self, path: str, worker: int = 0, *, new: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        self.path = path
        if new:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._fd = os.open(path, flags | (os.O_CREAT | os.O_EXCL if new else 0), 0o600)
        try:
            if new:
                _fill(self._fd, HEAD + ROOM * len(STREAMS))
                os.pwrite(self._fd, WORD.pack(MAGIC), 0)
            self._memory = mmap.mmap(self._fd, HEAD + ROOM * len(STREAMS))
            if WORD.unpack_from(self._memory)[0] != MAGIC:
                raise ValueError("its beginning is not ours")
        except (OSError, ValueError) as error:
            os.close(self._fd)
            if new:
                os.unlink(path)
            raise error if isinstance(error, OSError) else OSError(f"{path} is no spool: {error}") from error
        keys = enumerate(STREAMS, worker * len(STREAMS))
        self.lanes = {stream: Lane(self._memory, key % len(STREAMS), key) for key, stream in keys}

    @property
    def empty(self) -> bool:
        return all(lane.written == lane.end for lane in self.lanes.values())

    def claim(self, *, wait: bool) -> bool:
        """Become the reader, as soon as the last one is gone; False if it is not and *wait* is."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        for lane in self.lanes.values():
            lane.recover()
        return True

    def release(self) -> None:
        """Let another reader go on; what is held stays for it."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        with contextlib.suppress(BufferError):  # somebody still looks at it, and lets it go with that
            for lane in self.lanes.values():
                lane.close()
            self._memory.close()
        os.close(self._fd)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.close()


def _waiting(fd: int) -> int:
    """How many bytes the pipe *fd* holds."""
    room = bytearray(4)
    fcntl.ioctl(fd, termios.FIONREAD, room)
    return int.from_bytes(room, "little")


def _fill(fd: int, size: int) -> None:
    """Take *size* bytes of the disk now: a full one would later end whoever writes to the memory."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(fd, 0, size)
    for start in () if hasattr(os, "posix_fallocate") else range(0, size, MOST):
        os.pwrite(fd, bytes(min(MOST, size - start)), start)
