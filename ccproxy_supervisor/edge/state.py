"""What survives a restart of the supervisor: the last day, the restart history of each slot, and who its workers were."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import Field, TypeAdapter

from ccproxy_supervisor.core.history import Day
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import Ending, Journal, Note
from ccproxy_supervisor.core.policy import Record
from ccproxy_supervisor.system.files import put

LONGEST = 1 << 20  # bytes of a file that could be ours
SAME_START = 1.0  # seconds between two readings of one process's start time


@dataclass(frozen=True, slots=True)
class Slot:
    """A place's history."""

    record: Record = field(default_factory=Record)
    restarts: int = 0
    last_ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A worker as we started it; *started* is wall time, *socket* its private one."""

    pid: Annotated[int, Field(gt=1)]
    started: Annotated[float, Field(allow_inf_nan=False)]
    socket: str


@dataclass(frozen=True, slots=True)
class Saved:
    slots: Mapping[int, Slot] = field(default_factory=dict)
    workers: tuple[Recorded, ...] = ()
    day: Day = field(default_factory=Day)
    restarts: int = 0
    """How often one followed another that was killed, or had itself ended."""
    renewals: int = 0
    closed: bool = True
    """Whether the supervisor ended by itself; one that is killed leaves what it wrote while it ran."""


SAVED = TypeAdapter(Saved)

PRELOAD = "--preload-fd"


class StateFile:
    """`run/state.json`. Blocking, small; a caller on an event loop may use a thread."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self._path, self._journal = path, journal
        self._written = b""
        self._trouble = ""
        self._lock = threading.Lock()

    def read(self) -> Saved:
        """Return what was saved; nothing, and a note, when the file is not ours to understand."""
        try:
            with self._path.open("rb") as file:
                return SAVED.validate_json(file.read(LONGEST))
        except FileNotFoundError:
            return Saved()
        except Exception as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            self._journal(Note("state.ignored", "warning", {"file": str(self._path), "reason": reason}))
            return Saved()

    def write(self, saved: Saved) -> None:
        """Replace the file if *saved* says anything new. A full disk costs the history, nothing else.

        No fsync: after a power loss there is no worker left to find, and an empty file is read as no history.
        """
        try:
            data = SAVED.dump_json(saved)
            with self._lock:
                if data != self._written:
                    self._put(data)
            self._trouble = ""
        except Exception as error:
            reason, before = getattr(error, "strerror", None) or repr(error), self._trouble
            self._trouble = reason
            if reason != before:
                self._journal(Note("state.unsaved", "warning", {"file": str(self._path), "reason": reason}))

    def restore(self) -> bool:
        """Write again what was written last, if the file is gone; returns whether it was. Raises OSError."""
        with self._lock:
            if not self._written or self._path.exists():
                return False
            self._put(self._written)
            return True

    def _put(self, data: bytes) -> None:
        put(self._path, data)
        self._written = data


@dataclass(frozen=True)
class Leftover:
    """A worker of an earlier supervisor that still runs; proven, and proven again before each signal."""

    record: Recorded
    ours: Callable[[list[str]], bool]

    @property
    def alive(self) -> bool:
        return proven(self.record, self.ours)

    def ask(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.alive:
            return
        with suppress(OSError):
            leads = os.getpgid(self.record.pid) == self.record.pid
            (os.killpg if leads else os.kill)(self.record.pid, number)


def leftovers(records: Iterable[Recorded], ours: Callable[[list[str]], bool]) -> list[Leftover]:
    """Return those of *records* that still run. Anything that fails the proof is somebody else's process."""
    return [Leftover(record, ours) for record in records if proven(record, ours)]


def proven(record: Recorded, ours: Callable[[list[str]], bool]) -> bool:
    """Whether that pid is still that worker: same start time, a command line of *ours*, its private socket; who was forked has
    the command line of its preloader."""
    return known(lambda: _proven(psutil.Process(record.pid), record, ours), otherwise=False)


def _proven(process: psutil.Process, record: Recorded, ours: Callable[[list[str]], bool]) -> bool:
    if abs(process.create_time() - record.started) > SAME_START or process.status() == psutil.STATUS_ZOMBIE:
        return False
    words = process.cmdline()
    return ours(words) and (record.socket in words or PRELOAD in words)
