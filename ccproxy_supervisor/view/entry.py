"""One line of a log, and what is known of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

LEVELS = ("debug", "info", "warning", "error", "critical")
ASSUMED = {"stdout": "info", "stderr": "warning"}  # lines of these have no level
_CLOCK = re.compile(rb"(?:\x1b\[[0-9;]*m)*([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])\b")


@dataclass(frozen=True, slots=True)
class Entry:
    """*at* orders it among others: the latest moment it can have been written. *time* is the one it says itself."""

    log: str
    line: bytes
    at: float
    time: float | None
    fields: dict[str, Any] | None

    @property
    def level(self) -> str:
        return str((self.fields or {}).get("level") or ASSUMED.get(self.log, "info"))

    @property
    def worker(self) -> int | None:
        fields = self.fields or {}
        if str(subject := fields.get("subject")).startswith("worker "):
            subject = str(subject).removeprefix("worker ")
            return int(subject) if subject.isdigit() else None
        number = fields.get("worker")
        return number if isinstance(number, int) else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries to show; None: whatever it is."""

    level: str | None = None
    worker: int | None = None

    def __call__(self, entry: Entry) -> bool:
        return (self.worker is None or entry.worker == self.worker) and (
            self.level is None or _rank(entry.level) >= _rank(self.level)
        )


def read(log: str, line: bytes, latest: float, *, live: bool = False) -> Entry:
    """Read *line*, which was written at *latest* or before; *live*: just then, whatever it says itself."""
    fields, time = None, latest if live else None
    if line.startswith(b"{"):
        try:
            found = json.loads(line)
            time = datetime.fromisoformat(found["time"]).timestamp()
            fields = found
        except (ValueError, LookupError, TypeError, RecursionError):
            pass  # a worker may print anything
    elif clock := _CLOCK.match(line):
        time = _today(clock, latest)
    return Entry(log, line, latest if time is None else min(time, latest), time, fields)


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else 1


def _today(clock: re.Match[bytes], latest: float) -> float:
    """The last time before *latest* that a local clock showed this."""
    hour, minute, second = map(int, clock.groups())
    day = datetime.fromtimestamp(latest)  # noqa: DTZ006 - what prints a bare clock prints the local one
    shown = day.replace(hour=hour, minute=minute, second=second, microsecond=0)
    return (shown if shown <= day else shown - timedelta(days=1)).timestamp()
