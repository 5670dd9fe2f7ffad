"""What happened to the logs, counted and told; from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.model import LOGS, Note

MOST = 100  # kinds of faults that are told of


class LogCounters(NamedTuple):
    """Since the start: bytes written and dropped, and rotations."""

    bytes: int = 0
    rotations: int = 0
    dropped: int = 0


class Tally:
    """Counts, and tells of each trouble once when it begins and once when it is over."""

    def __init__(self, tell: Callable[[Note], None]) -> None:
        self._tell, self._lock = tell, threading.Lock()
        self._counters = dict.fromkeys(LOGS, LogCounters())
        self._troubles: dict[tuple[str, str], int] = {}
        self._stumbles: set[tuple[str, str]] = set()

    def counters(self) -> dict[str, LogCounters]:
        return dict(self._counters)

    def count(self, log: str, *, written: int = 0, rotations: int = 0, dropped: int = 0) -> None:
        with self._lock:
            old = self._counters[log]
            self._counters[log] = LogCounters(old.bytes + written, old.rotations + rotations, old.dropped + dropped)

    def failed(self, what: str, log: str, reason: object) -> None:
        """*what* (`write`, `rotate`, …) does not work for *log*."""
        with self._lock:
            if (what, log) in self._troubles:
                return
            self._troubles[what, log] = self._counters[log].dropped
        if isinstance(reason, Exception):
            reason = getattr(reason, "strerror", None) or told(reason)
        self._tell(Note("log.failed", "error", {"log": log, "reason": f"cannot {what} {log}.log: {reason}"}))

    def stumbled(self, thread: str, error: Exception) -> None:
        """A fault of whatever kind, at which *thread* goes on; told once for each."""
        reason = told(error)
        with self._lock:
            if (thread, reason) in self._stumbles or len(self._stumbles) > MOST:
                return
            self._stumbles.add((thread, reason))
        self._tell(Note("part.failed", "error", {"part": thread, "error": reason}))

    def resumed(self, what: str, *logs: str) -> None:
        """*what* works again for *logs*."""
        for log in logs if self._troubles else ():
            with self._lock:
                since = self._troubles.pop((what, log), None)
                dropped = self._counters[log].dropped
            if since is not None:
                self._tell(Note("log.resumed", "info", {"log": log, "dropped": dropped - since}))
