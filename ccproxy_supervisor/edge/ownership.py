"""One supervisor a home: a lock, and who holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ccproxy_supervisor.core.faults import ConfigError, Fault

LOCK = "supervisor.lock"
LONGEST = 4096  # bytes of what an owner says


class HomeTaken(Exception):  # noqa: N818 - a fact, not an error
    """Another supervisor owns the home; *pid* is None when it did not say."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        self.pid = pid
        super().__init__(f"cannot use {folder}: {f'process {pid}' if pid else 'another supervisor'} owns it")


@contextmanager
def owning(run: Path, control: str = "") -> Iterator[None]:
    """Own the home by a lock in its folder *run*; raises `HomeTaken` and `ConfigError`. The kernel gives it back whatever
    happens to this process.

    *control* is this owner's socket, for commands to find however the settings are edited meanwhile.
    """
    path = run / LOCK
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError([Fault(f"{run.name}/{LOCK}", f"cannot lock the home: {error.strerror}")]) from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 20, 0).partition(b"\n")[0]
            raise HomeTaken(run.parent, int(holder) if holder.isdigit() else None) from None
        with suppress(OSError):  # a full disk costs the name of the holder, not the lock
            os.ftruncate(file, 0)
            os.pwrite(file, os.fsencode(f"{os.getpid()}\n{control}\n"), 0)
        yield
    finally:
        os.close(file)


def control_of(run: Path) -> str | None:
    """The control socket that the home's owner, or its last one, has named."""
    with suppress(OSError):
        said = os.fsdecode((run / LOCK).read_bytes()[:LONGEST]).splitlines()
        return said[1] or None if len(said) > 1 else None
    return None
