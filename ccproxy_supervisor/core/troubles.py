"""What is wrong now, and what went wrong, as troubles that somebody may want to be told of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.incident import in_words, sentence
from ccproxy_supervisor.core.model import SUPERSEDED, Event, Note, OllamaStatus, Reloaded, State, Transition
from ccproxy_supervisor.core.notices import LASTING, Trouble
from ccproxy_supervisor.core.status import WorkerView

WIDTH = 300  # characters of one trouble
FAILOVER = 2.0  # seconds that a standby may take
#: What ends with another note; what else is noted as an error is told and over at once.
ENDS = {
    "log.failed": ("log.resumed",),
    "admin.port_taken": ("admin.opened",),
    "admin.refused": ("admin.opened",),
    "control.refused": ("control.restored", "control.opened"),
}


def standing(
    views: Iterable[WorkerView], ollama: OllamaStatus | None, models: Iterable[ModelView], *, needs_ollama: bool
) -> list[Trouble]:
    """What is not as it should be and nobody asked for: a place that has never lost a worker may take its time."""
    views = tuple(views)
    away = [view for view in views if view.failed and view.state in (State.STARTING, State.BACKOFF)]
    found = [Trouble(place(view.slot), _about(view), LASTING) for view in away]
    if away and not any(view.state is State.SERVING for view in views):
        found.append(Trouble("service", "Nobody is served: no worker is up.", FAILOVER, grave=True))
    if needs_ollama and ollama and not ollama.up:
        found.append(Trouble("ollama", _cut(f"Ollama does not answer: {ollama.detail or 'down'}"), LASTING))
    elif needs_ollama and ollama and ollama.missing:
        found.append(Trouble("missing", _cut(f"Ollama does not have {', '.join(ollama.missing)}"), LASTING))
    if needs_ollama and ollama and ollama.stuck:
        found.append(Trouble("stuck", _cut(f"Ollama answers and generates nothing: {ollama.stuck}"), LASTING))
    return found + [
        Trouble(f"model {model.name}", _cut(f"Model {model.name} fails: {model.detail or 'unknown reason'}"), LASTING)
        for model in models
        if model.healthy is False
    ]


def place(slot: int | None) -> str:
    return f"worker {'standby' if slot is None else slot}"


def _about(view: WorkerView) -> str:
    return f"No worker is up {'on standby' if view.slot is None else f'in slot {view.slot}'}."


def _cut(words: str) -> str:
    first = words.strip().partition("\n")[0]
    return first if len(first) <= WIDTH else first[: WIDTH - 1] + "…"


class Happened:
    """Follows the journal; *standing* is what was noted and has not ended yet, by key."""

    def __init__(self) -> None:
        self.standing: dict[str, Trouble] = {}

    def hear(self, event: Event) -> Trouble | None:
        """Return what is worth telling of *event*."""
        match event:
            case Transition(new=State.GONE, ending=ending) if ending and not ending.cause.planned:
                facts: dict[str, Any] = {"worker": event.number, "slot": event.slot, "cause": str(ending.cause)}
                facts |= {"uptime": ending.uptime, "exit": "" if ending.status is None else in_words(ending.status)}
                return Trouble(place(event.slot), _cut(sentence(facts)))
            case Reloaded():
                return self._reloaded(event)
            case Note():
                return self._noted(event)
        return None

    def _reloaded(self, report: Reloaded) -> Trouble | None:
        if report.result not in ("refused", "failed"):
            self.standing.pop("config", None)
        elif not report.detail.startswith((SUPERSEDED, "stopping")):
            self.standing["config"] = Trouble("config", _cut(f"A reload was {report.result}: {report.detail}"))
        return self.standing.get("config")

    def _noted(self, note: Note) -> Trouble | None:
        for begun in (each for each, endings in ENDS.items() if note.event in endings):
            self.standing.pop(_key(begun, note.fields), None)
        if note.level != "error":
            return None
        key = _key(note.event, note.fields)
        words = next((str(note.fields[name]) for name in ("reason", "error", "detail") if note.fields.get(name)), "")
        trouble = Trouble(key, _cut(f"{note.event.replace('.', ' ').replace('_', ' ')}: {words}"))
        if note.event in ENDS:
            self.standing[key] = trouble
        return trouble


def _key(event: str, fields: Mapping[str, Any]) -> str:
    kind = event.partition(".")[0]
    subject = fields.get("log") or fields.get("part") or event
    return f"{kind} {subject}" if kind == "log" else f"daemon {subject}"
