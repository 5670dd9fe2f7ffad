"""A new supervisor that ends before it has taken over is followed by the one before it."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.images import HANDED
from ccproxy_supervisor.edge.renewal.image import Entry, Handed, become
from ccproxy_supervisor.system.files import put

MARK = "renewal.json"  # in run/, from a supervisor's leaving until the next one has taken over
TAKEOVER = 60  # seconds for it to take over, then the kernel ends it
LONGEST = 1 << 16  # bytes


class Stranded(Exception):  # noqa: N818 - a fact, not an error
    """Neither the new image can be executed nor the old one: a service manager starts one, which takes the workers on."""


def follow(entry: Entry, handed: Handed, run: Path, follower: str) -> NoReturn:
    """Become the new image, of version *follower*, or this one anew where that is impossible; raises `Stranded`. Whatever else
    is open is closed by the kernel."""
    _leave_mark(run, Mark(list(entry.back), entry.folder, follower))
    signal.alarm(TAKEOVER)
    try:
        become(entry.words, entry.folder, handed)
    except OSError as error:
        settle(run)
        why = f"cannot execute {entry.words[0]}: {error.strerror}"
        with suppress(OSError):
            become(entry.back, entry.folder, replace(handed, undone=why, undone_version=follower))
        raise Stranded(
            f"{why}; the workers serve on until another supervisor takes them on, or their orphan_grace is over"
        ) from error


def settle(run: Path) -> None:
    """It has taken over: nobody goes back."""
    signal.alarm(0)
    with suppress(OSError):
        (run / MARK).unlink()


def guarded(run: Path, begin: Callable[[], int]) -> int:
    """Begin; but where a new supervisor ends before it has taken over, the one before it goes on in its stead."""
    handed, last = Handed.of(os.environ.get(HANDED, "{}")), _marked(run)
    if last and HANDED not in os.environ:  # killed, and started again
        last.go_back(run, handed, "it was killed")
    try:
        status = begin()
    except BaseException as error:
        if last := _marked(run):
            last.go_back(run, handed, told(error))
        raise
    if status and (last := _marked(run)):
        last.go_back(run, handed, f"it ended with status {status}")
    settle(run)
    return status


@dataclass(frozen=True)
class Mark:
    """The way *back* from a supervisor of version *follower*."""

    back: list[str]
    folder: str
    follower: str

    def go_back(self, run: Path, handed: Handed, why: str) -> None:
        """Returns only if it is impossible."""
        settle(run)
        print(f"version {self.follower} did not take over: {why}; going back", file=sys.stderr)
        with suppress(OSError):
            become(self.back, self.folder, replace(handed, undone=why, undone_version=self.follower))


def _leave_mark(run: Path, mark: Mark) -> None:
    """Without a disk for it nobody goes back: the new one has proven itself."""
    with suppress(OSError):
        put(run / MARK, json.dumps(asdict(mark)).encode())


def _marked(run: Path) -> Mark | None:
    """What it names is executed: it must be ours alone."""
    with (
        suppress(OSError, ValueError, TypeError),
        open(os.open(run / MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file,
    ):
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
            known: dict[str, Any] = json.loads(file.read(LONGEST))
            return Mark(**known)
    return None
