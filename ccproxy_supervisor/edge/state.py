"""What survives a restart of the supervisor: the last day, the restart history of each slot, and who its workers were."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import Field, TypeAdapter

from ccproxy_supervisor.core.history import Day
from ccproxy_supervisor.core.model import Ending, Journal, Note
from ccproxy_supervisor.core.policy import Record

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
    closed: bool = True
    """Whether the supervisor ended by itself; one that is killed leaves what it wrote while it ran."""


SAVED = TypeAdapter(Saved)


class StateFile:
    """`run/state.json`. Blocking, small; a caller on an event loop may use a thread."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self._path, self._journal = path, journal
        self._written = b""

    def read(self) -> Saved:
        """Return what was saved; nothing, and a note, when the file is not ours to understand."""
        try:
            with self._path.open("rb") as file:
                return SAVED.validate_json(file.read(LONGEST))
        except FileNotFoundError:
            return Saved()
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            self._journal(Note("state.ignored", "warning", {"file": str(self._path), "reason": reason}))
            return Saved()

    def write(self, saved: Saved) -> None:
        """Replace the file if *saved* says anything new. A full disk costs the history, nothing else.

        No fsync: after a power loss there is no worker left to find, and an empty file is read as no history.
        """
        data = SAVED.dump_json(saved)
        if data == self._written:
            return
        partial = self._path.with_name(f".{self._path.name}.tmp")
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
            partial.replace(self._path)
            self._written = data
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            self._journal(Note("state.unsaved", "warning", {"file": str(self._path), "reason": error.strerror}))


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
        with suppress(ProcessLookupError, PermissionError):
            leads = os.getpgid(self.record.pid) == self.record.pid
            (os.killpg if leads else os.kill)(self.record.pid, number)


def leftovers(records: Iterable[Recorded], ours: Callable[[list[str]], bool]) -> list[Leftover]:
    """Return those of *records* that still run. Anything that fails the proof is somebody else's process."""
    return [Leftover(record, ours) for record in records if proven(record, ours)]


def proven(record: Recorded, ours: Callable[[list[str]], bool]) -> bool:
    """Whether that pid is still that worker: same start time, a command line of *ours*, its private socket."""
    try:
        process = psutil.Process(record.pid)
        if abs(process.create_time() - record.started) > SAME_START or process.status() == psutil.STATUS_ZOMBIE:
            return False
        words = process.cmdline()
    except (psutil.Error, ValueError, OverflowError):
        return False
    return ours(words) and record.socket in words
