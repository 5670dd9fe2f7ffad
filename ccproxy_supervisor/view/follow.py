"""A log as it grows, across rotations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from ccproxy_supervisor.view.entry import Entry, read
from ccproxy_supervisor.view.files import LONGEST, LogFiles, archives, unpacked

MOST = 1 << 20  # bytes at a time


class Follower:
    """Goes on where *files* were when they were opened; an unfinished line is shown when it is finished."""

    def __init__(self, files: LogFiles) -> None:
        self._files = files
        self._carry = b""
        self._known = set(archives(files.folder, files.log))
        if files.file:
            files.file.seek(files.end)

    def news(self, now: float) -> Iterator[Entry]:
        """What was written since the last call."""
        file = self._files.file
        moved = file is None or not self._current(file)
        if file:
            yield from self._rest(file, now)
        if moved:
            yield from self._go_on(now)

    def _current(self, file: IO[bytes]) -> bool:
        """Whether *file* still has its name; one that shrank is read from its start."""
        ours = os.fstat(file.fileno())
        if ours.st_size < file.tell():
            self._carry = b""
            file.seek(0)
        try:
            return os.path.samestat(ours, os.stat(self._files.path))
        except OSError:
            return True  # until there is another one

    def _go_on(self, now: float) -> Iterator[Entry]:
        """Read what was rotated away in between, then the new file."""
        try:
            new = open(self._files.path, "rb")  # noqa: SIM115 - kept
        except OSError:
            return
        rotated = archives(self._files.folder, self._files.log)
        fresh = [each for each in rotated if each not in self._known]
        self._known.update(fresh)
        if self._carry:
            yield from self._lines(b"\n", now)
        for missed in fresh[1:] if self._files.file else fresh:  # the first is the one we had
            with suppress(OSError), unpacked(self._files.folder, missed) as file:
                yield from self._rest(file, now)
        self._files.close()
        self._files.file = new
        yield from self._rest(new, now)

    def _rest(self, file: IO[bytes], now: float) -> Iterator[Entry]:
        while data := file.read(MOST):
            yield from self._lines(data, now)

    def _lines(self, data: bytes, now: float) -> Iterator[Entry]:
        *lines, self._carry = (self._carry + data).split(b"\n")
        if len(self._carry) > LONGEST:
            lines, self._carry = [*lines, self._carry], b""
        for line in lines:
            yield read(self._files.log, line, now, live=True)
