"""The file launchd gives us as standard error: never truncated and never rotated by anybody but us."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from pathlib import Path

NAME = "launchd.log"  # in the folder of the logs: what is printed before there is a log, or while everything dies
KEEP = 64 << 10  # bytes


def bound(descriptor: int = 2, keep: int = KEEP) -> None:
    """Cut the file behind *descriptor* down to its last *keep* bytes, if it is launchd's; failing costs nothing.

    In place, for launchd holds it open, for append. Its name comes from the kernel: settings that cannot be used are
    what fills it.
    """
    with suppress(OSError):
        file = _file(descriptor)
        if file.name == NAME:
            _cut(file, keep)


def _file(descriptor: int) -> Path:
    if sys.platform == "darwin":
        return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def _cut(file: Path, keep: int) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size > keep:
            last = os.pread(descriptor, keep, size - keep)
            os.pwrite(descriptor, last, 0)
            os.ftruncate(descriptor, len(last))
    finally:
        os.close(descriptor)
