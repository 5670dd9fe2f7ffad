"""The files of a log, rotated ones too, read from the end: memory does not grow with them."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from ccproxy_supervisor.core.rotation import Archive, parse
from ccproxy_supervisor.view.entry import Entry, read

BLOCK = 64 << 10
LONGEST = 1 << 20  # bytes of a line; what is longer is shown in parts


class LogFiles:
    """One log in *folder*. Opens the current file at once: later rotations change nothing of what is read here.

    With *whole*, a line that is not finished yet is left for who reads on from *end*.
    """

    def __init__(self, folder: Path, log: str, *, whole: bool = False) -> None:
        self.folder, self.log = folder, log
        self.path = folder / f"{log}.log"
        self.file: IO[bytes] | None = None
        self.end = 0
        with suppress(OSError):
            self.file = open(self.path, "rb")  # noqa: SIM115 - see `close`
            size = os.fstat(self.file.fileno()).st_size
            start = max(0, size - LONGEST)
            self.end = start + _part(self.file, start, size).rfind(b"\n") + 1 if whole else size

    def close(self) -> None:
        if self.file:
            self.file.close()

    def newest_first(self) -> Iterator[Entry]:
        """Every entry from the last to the first; a rotated file is opened when its turn comes."""
        latest = float("inf")
        if self.file:
            found = os.fstat(self.file.fileno())
            for entry in entries(self.log, self.file, self.end, found.st_mtime):
                yield entry
                latest = entry.at
        for archive in reversed(archives(self.folder, self.log)):
            with suppress(OSError), unpacked(self.folder, archive) as file:
                found = os.fstat(file.fileno())
                if self.file and os.path.samestat(found, os.fstat(self.file.fileno())):
                    continue  # rotated since we opened it
                for entry in entries(self.log, file, found.st_size, min(found.st_mtime, latest)):
                    yield entry
                    latest = entry.at


def archives(folder: Path, log: str) -> list[Archive]:
    """The rotated files, oldest first."""
    try:
        found = {archive for name in os.listdir(folder) if (archive := parse(name)) and archive.log == log}
    except OSError:
        return []
    return sorted(found, key=lambda archive: (archive.stamp, archive.number))


def unpacked(folder: Path, archive: Archive) -> IO[bytes]:
    """Open a rotated file; a compressed one is unpacked into a file without a name. Raises OSError."""
    plain = folder / f"{archive.log}.log.{archive.stamp}{f'.{archive.number}' if archive.number else ''}"
    with suppress(FileNotFoundError):
        return open(plain, "rb")
    packed = plain.with_name(f"{plain.name}.gz")
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with open(packed, "rb") as raw, suppress(EOFError, gzip.BadGzipFile, zlib.error):  # what is whole is shown
        shutil.copyfileobj(gzip.GzipFile(fileobj=raw), file, BLOCK)
    file.seek(0)
    written = packed.stat().st_mtime_ns
    os.utime(file.fileno(), ns=(written, written))
    return file


def entries(log: str, file: IO[bytes], end: int, latest: float) -> Iterator[Entry]:
    """The entries before *end*, the last one first; none of them was written after *latest*."""
    for line in backwards(file, end):
        entry = read(log, line, latest)
        latest = entry.at
        yield entry


def backwards(file: IO[bytes], end: int) -> Iterator[bytes]:
    """The lines before *end*, the last one first, without their ends."""
    rest = b""
    if end and _part(file, end - 1, end) == b"\n":
        end -= 1
    elif not end:
        return
    while end > 0:
        start = max(0, end - BLOCK)
        lines = (_part(file, start, end) + rest).split(b"\n")
        end, rest = start, b""
        if start and len(lines[0]) < LONGEST:
            rest = lines.pop(0)
        yield from reversed(lines)


def _part(file: IO[bytes], start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
