"""The file launchd gives us as standard output and error: never truncated and never rotated by anybody but us."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NAME = "launchd.log"  # in the folder of the logs: what is printed before there is a log, or while everything dies
KEEP = 64 << 10  # bytes


def bound(file: Path, keep: int = KEEP) -> None:
    """Cut *file* down to its last *keep* bytes, in place: launchd holds it open, for append. Failing costs nothing."""
    with suppress(OSError):
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size > keep:
                last = os.pread(descriptor, keep, size - keep)
                os.pwrite(descriptor, last, 0)
                os.ftruncate(descriptor, len(last))
        finally:
            os.close(descriptor)
