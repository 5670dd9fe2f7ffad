"""The journal's written side: every event as one JSON line of supervisor.log, and on a terminal as one to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ccproxy_supervisor.core.model import (
    Event,
    Failover,
    Helped,
    ModelSeen,
    Note,
    OllamaStatus,
    Probed,
    Reloaded,
    State,
    Transition,
)
from ccproxy_supervisor.core.printable import printable

LEVELS = ("debug", "info", "warning", "error")
Fields = dict[str, Any]


class Writer:
    """A listener of the journal. *write* and *show*, for a terminal, take a finished line and must not block."""

    def __init__(
        self, write: Callable[[bytes], object], level: str, show: Callable[[bytes], object] | None = None
    ) -> None:
        self._write, self._show = write, show
        self.adopt(level)

    def adopt(self, level: str) -> None:
        self._wanted = frozenset(LEVELS[LEVELS.index(level) :])

    def __call__(self, event: Event) -> None:
        for level, name, fields in self._lines(event):
            if level in self._wanted:
                self._put(level, name, {key: value for key, value in fields.items() if value is not None})

    def _put(self, level: str, name: str, fields: Fields) -> None:
        now = datetime.now(UTC)
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": stamp, "level": level, "event": name} | fields, ensure_ascii=False, default=str)
        self._write(line.encode(errors="replace") + b"\n")
        if self._show:
            words = " ".join(f"{key}={value}" for key, value in fields.items() if key != "output")  # `why` shows it
            said = printable(f"{now.astimezone():%H:%M:%S} {level:7} {name:20} {words}".rstrip())
            self._show(said.encode())

    def _lines(self, event: Event) -> list[tuple[str, str, Fields]]:
        match event:
            case Transition():
                return [_transition(event)]
            case Failover(slot, seconds):
                return [("warning", "failover.ended", {"slot": slot, "seconds": round(seconds, 3)})]
            case Reloaded(result, detail, by, changes):
                level = "error" if result in ("refused", "failed") else "info"
                return [(level, f"reload.{result}", {"by": by, "detail": detail, "changes": list(changes) or None})]
            case Probed(probe, subject, verdict):
                level = "warning" if probe == "liveness" and not verdict.ok else "debug"
                fields = {"probe": probe, "subject": subject, "reason": verdict.reason, "detail": verdict.detail}
                return [] if verdict.ok else [(level, "probe.failed", fields)]
            case ModelSeen(name, healthy, detail, before):
                return _model(name, healthy, detail, before)
            case Helped(step, why, wrong):
                level, word = ("error", "ollama.helpless") if step == "shout" else ("warning", "ollama.helped")
                return [(level, word, {"step": step, "why": why, "detail": wrong or None})]
            case Note(name, level, fields):
                return [(level, name, fields)]
            case OllamaStatus():
                return []  # its changes come as notes


def _model(name: str, healthy: bool | None, detail: str, before: bool | None) -> list[tuple[str, str, Fields]]:
    if healthy is False:
        return [("warning", "model.failed", {"model": name, "detail": detail})]
    word = "model.forgotten" if healthy is None else "model.recovered"
    return [("info", word, {"model": name, "detail": detail or None})] if before is False else []


def _transition(moved: Transition) -> tuple[str, str, Fields]:
    fields: Fields = {"worker": moved.number, "slot": moved.slot, "generation": moved.generation, "pid": moved.pid}
    if moved.delay is not None:
        fields["delay"] = round(moved.delay, 3)
    if moved.old is not None and moved.new is not State.BACKOFF:
        fields |= {"was": str(moved.old), "seconds": round(moved.since, 3)}
    if (ending := moved.ending) is None:
        return "info", f"worker.{moved.new}", fields
    fields |= {"cause": str(ending.cause), "status": ending.status, "uptime": round(ending.uptime, 3)}
    if ending.cause.planned:
        return "info", "worker.gone", fields
    return "error", "worker.gone", fields | {"detail": ending.detail or None, "output": list(ending.output) or None}
