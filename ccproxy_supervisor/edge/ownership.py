"""One supervisor a home: two locks, and who holds them.

The one on the home folder itself holds whatever is removed from it; the one on a file names the holder, and is all there
is where a file system cannot lock a folder (NFS).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ccproxy_supervisor.core.faults import ConfigError, Fault

LOCK = "supervisor.lock"
LONGEST = 4096  # bytes of what an owner says
PATIENCE = 0.5  # seconds to try for a lock: a command that looks who has it holds it for an instant


class HomeTaken(Exception):  # noqa: N818 - a fact, not an error
    """Another supervisor owns the home; *pid* is None when it did not say."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        self.pid = pid
        super().__init__(f"cannot use {folder}: {f'process {pid}' if pid else 'another supervisor'} owns it")


class Ownership:
    """The locks of a home by its folder *run*. *control* is the owner's socket, for commands to find however the settings are
    edited meanwhile."""

    def __init__(self, run: Path, control: str = "") -> None:
        self._path, self._control = run / LOCK, control
        self._folder = self._file = -1

    @property
    def descriptors(self) -> tuple[int, int]:
        """What holds the locks, for another image of this process."""
        return self._folder, self._file

    def take(self, had: Sequence[int] = ()) -> None:
        """Own it, or go on owning it by the descriptors that this process *had*. Raises `HomeTaken` and `ConfigError`."""
        try:
            if had:
                self._folder, self._file = map(os.dup, had)
            else:
                self._folder = os.open(self._path.parent.parent, os.O_RDONLY | os.O_DIRECTORY)
            self._claim(self._folder, PATIENCE)
            self._file = self._lock_file(PATIENCE, self._file)
        except OSError as error:
            name = f"{self._path.parent.name}/{LOCK}"
            raise ConfigError([Fault(name, f"cannot lock the home: {error.strerror}")]) from None

    def restore(self) -> bool:
        """Make the file anew, and lock it, if it is not there any more; returns whether it was so. Raises OSError."""
        ours = os.fstat(self._file)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.lstat(self._path), ours):
                return False
        try:
            renewed = self._lock_file(0.0)
        except HomeTaken as error:
            raise OSError(str(error)) from None
        self._file, old = renewed, self._file
        os.close(old)
        return True

    def release(self) -> None:
        for descriptor in (self._file, self._folder):
            if descriptor >= 0:
                os.close(descriptor)

    def _lock_file(self, patience: float, had: int = -1) -> int:
        file = had if had >= 0 else os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            self._claim(file, patience)
            with suppress(OSError):  # a full disk costs the name of the holder, not the lock
                os.ftruncate(file, 0)
                os.pwrite(file, os.fsencode(f"{os.getpid()}\n{self._control}\n"), 0)
        except BaseException:
            os.close(file)
            raise
        return file

    def _claim(self, descriptor: int, patience: float) -> None:
        if _lock(descriptor, fcntl.LOCK_EX, patience) is False:
            raise HomeTaken(self._path.parent.parent, _said(self._path)[0])


@contextmanager
def owning(run: Path, control: str = "", had: Sequence[int] = ()) -> Iterator[Ownership]:
    """Own the home, see `Ownership.take`. The kernel gives it back whatever happens to this process."""
    owned = Ownership(run, control)
    try:
        owned.take(had)
        yield owned
    finally:
        owned.release()


def owned(run: Path) -> bool:
    """Whether a supervisor owns the home now."""
    return any(_held(path, flags) for path, flags in ((run.parent, os.O_DIRECTORY), (run / LOCK, os.O_NOFOLLOW)))


def owner(run: Path) -> int | None:
    """The process that has said so of itself last, and where it still is the owner."""
    return _said(run / LOCK)[0] if owned(run) else None


def control_of(run: Path) -> str | None:
    """The control socket that the home's owner, or its last one, has named."""
    return _said(run / LOCK)[1]


def _said(lock: Path) -> tuple[int | None, str | None]:
    with suppress(OSError):
        pid, control, *_ = [*os.fsdecode(lock.read_bytes()[:LONGEST]).splitlines(), "", ""]
        return int(pid) if pid.isdecimal() else None, control or None
    return None, None


def _held(path: Path, flags: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | flags)
    except OSError:
        return False
    try:
        return _lock(descriptor, fcntl.LOCK_SH, 0.0) is False
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, patience: float) -> bool | None:
    """Lock it until it is closed; False: somebody else has it, None: this file system cannot lock such a thing."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        except OSError:
            return None
        else:
            return True
