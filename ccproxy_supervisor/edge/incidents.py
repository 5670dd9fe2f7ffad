"""One file for every unplanned ending, with all that was known of that worker."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccproxy_supervisor.core.incident import headline, helpless, incident, utc
from ccproxy_supervisor.core.model import Event, Helped, Journal, Note, Probed, State, Transition
from ccproxy_supervisor.system.files import put

KEEP = 50
LARGEST = 1 << 20  # bytes of a record
RECALLED = 10  # records kept in memory, for a folder that somebody removes
WAITING = 32  # records that may wait for a slow disk before the newest is dropped
Memory = Callable[[int], Sequence[tuple[float, int]]]


@dataclass
class Life:
    """What is remembered of a worker that lives."""

    timeline: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=50))
    probes: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=20))


class Incidents:
    """A listener of the journal. Files are written by a thread of its own; nothing it meets is raised.

    *memory* gives (wall time, bytes) samples of a worker by number.
    """

    def __init__(
        self, directory: Path, journal: Journal, memory: Memory, wall: Callable[[], float] = time.time
    ) -> None:
        self._directory, self._journal, self._memory, self._wall = directory, journal, memory, wall
        self._lives: dict[int, Life] = {}
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(WAITING)
        self._lost: deque[str] = deque(maxlen=WAITING)
        self._writer: threading.Thread | None = None
        self._recent: deque[dict[str, Any]] = deque(maxlen=RECALLED)
        self.written = self.dropped = 0
        last = read(directory, 1)
        self._latest = last[0] if last else None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Transition):
            self._follow(event)
        elif isinstance(event, Probed) and event.subject.startswith("worker "):
            self._remember(event)
        elif isinstance(event, Helped) and event.step == "shout":
            self.record(helpless(self._wall(), event.why, event.wrong))
        while self._lost:  # told here and not by the writer: the journal belongs to the event loop
            self._journal(Note("incident.lost", "warning", {"reason": self._lost.popleft()}))

    def record(self, record: dict[str, Any]) -> None:
        """Have any record of the shape of `core.incident` written."""
        self._latest = record
        self._recent.append(record)
        self._hand_on(record)

    def restore(self) -> bool:
        """Have the latest written again if the folder is gone; returns whether it was. Raises OSError."""
        if self._directory.is_dir() or not self._recent:
            return False
        self._directory.mkdir(mode=0o700)
        for record in tuple(self._recent):
            self._hand_on(record)
        return True

    def latest_line(self) -> str:
        """Return the newest incident as one line, empty when there was none."""
        return "" if self._latest is None else f"{self._latest.get('at', '')} {headline(self._latest)}"

    def close(self, timeout: float = 2.0) -> None:
        """Wait for what is still to be written, but not for a dead disk."""
        if self._writer is not None:
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            self._writer.join(timeout)

    def _hand_on(self, record: dict[str, Any]) -> None:
        try:
            self._queue.put_nowait(record)
            if self._writer is None:
                writer = threading.Thread(target=self._write_all, name="incidents", daemon=True)
                writer.start()
                self._writer = writer
        except queue.Full:
            self._lose("the disk is slower than the incidents come")
        except RuntimeError as error:  # no thread to be had: the next record tries again
            self._lose(f"cannot write an incident: {error}")

    def _follow(self, moved: Transition) -> None:
        if moved.new is State.STARTING:
            self._lives[moved.number] = Life()
        life = self._lives.get(moved.number)
        if life is None or moved.new is State.BACKOFF:  # backoff is its place's, not its own
            return
        life.timeline.append((self._wall(), str(moved.new)))
        if moved.new is State.GONE:
            del self._lives[moved.number]
            if moved.ending is not None and not moved.ending.cause.planned:
                memory = self._memory(moved.number)
                self.record(incident(moved, moved.ending, life.timeline, memory, life.probes))

    def _remember(self, probed: Probed) -> None:
        life = self._lives.get(int(probed.subject.removeprefix("worker ")))
        if life is not None:
            verdict = probed.verdict
            answer = {"ok": verdict.ok, "reason": verdict.reason, "seconds": round(verdict.seconds, 4)}
            life.probes.append({"at": utc(self._wall()), "probe": probed.probe, **answer, "detail": verdict.detail})

    def _write_all(self) -> None:
        while (record := self._queue.get()) is not None:
            try:
                write(self._directory, record)
                self.written += 1
            except OSError as error:
                self._lose(f"cannot write {error.filename or self._directory}: {error.strerror}")
            except Exception as error:  # the thread must outlive any record
                self._lose(f"cannot write an incident: {error!r}")

    def _lose(self, reason: str) -> None:
        self.dropped += 1
        self._lost.append(reason)


def write(directory: Path, record: dict[str, Any], keep: int = KEEP) -> Path:
    """Write *record* whole or not at all, 0600, and forget all but the newest *keep*."""
    directory.parent.mkdir(mode=0o700, exist_ok=True)  # of what `parents=True` makes the mode cannot be told
    directory.mkdir(mode=0o700, exist_ok=True)
    stamp = record["at"].replace("-", "").replace(":", "")
    worker = f"-{record['worker']}" if "worker" in record else ""
    path = directory / f"{stamp}-{record['cause']}{worker}.json"
    put(path, json.dumps(record, indent=1).encode())
    for old in sorted(directory.glob("*.json"))[:-keep]:
        old.unlink(missing_ok=True)
    return path


def read(directory: Path, last: int) -> list[dict[str, Any]]:
    """Return the newest *last* records, oldest first; files that are no records are passed over."""
    records: list[dict[str, Any]] = []
    for path in sorted(directory.glob("*.json"), reverse=True):
        if len(records) == last:
            break
        with contextlib.suppress(OSError, ValueError):
            with path.open("rb") as file:
                record = json.loads(file.read(LARGEST))
            if isinstance(record, dict) and "cause" in record:
                records.append(record)
    return records[::-1]
