"""The status document as lines and tables of words, each with its tone; how they look is for others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ccproxy_supervisor.core.incident import spell
from ccproxy_supervisor.core.printable import printable
from ccproxy_supervisor.view.words import ago, first_token, memory

GOOD, BUSY, BAD, DIM, NONE = "good", "busy", "bad", "dim", ""
TONES = {
    "healthy": GOOD, "degraded": BUSY, "unhealthy": BAD, "starting": BUSY, "stopping": BUSY,
    "serving": GOOD, "standby": NONE, "draining": BUSY, "backoff": BAD, "gone": DIM,
    "applied": GOOD, "rolled": GOOD, "unchanged": NONE, "refused": BAD, "failed": BAD,
}  # fmt: skip


#: Keys of the document that are different every time it is asked for.
RESTLESS = frozenset({"uptime", "memory", "memory_growth", "cpu", "backoff", "checked", "history", "traffic"})


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    tone: str = NONE


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; the last column takes what room is left."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


Facts = tuple[tuple[str, Cell], ...]  # labels and values
Sheet = tuple[Facts | Grid, ...]  # what can be long comes last


def sheet(document: Mapping[str, Any], now: float) -> Sheet:
    listen = document["listen"]
    state, serving = document["status"], document.get("serving", 0)
    port = f"[{listen['host']}]" if ":" in listen["host"] else listen["host"]
    daemon = f"up {spell(document['uptime'])}, pid {document['pid']}, version {document['version']}"
    head = [
        ("status", _cell(state, TONES.get(state, NONE))),
        ("daemon", _cell(f"{daemon}, {document['home']}")),
        ("serves", _cell(f"{port}:{listen['port']}, {serving} of {_slots(document)}, generation {document['generation']}")),
        ("litellm", _litellm(document.get("litellm"), document.get("upgrade") or {}, now)),
    ]  # fmt: skip
    why = [*document.get("reasons", ()), *filter(None, [document.get("detail")])]
    head[1:1] = [("" if index else "because", _cell(reason)) for index, reason in enumerate(why)]
    others = [("ollama", _ollama(document.get("ollama"))), ("reload", _reload(document.get("reload"), now))]
    if incident := document.get("last_incident"):
        at, _, told = incident.partition(" ")
        others.append(("incident", _cell(f"{ago(at, now)}: {told}")))
    parts = (tuple(head), _workers(document, now), tuple(others), _traffic(document), _models(document, now))
    return tuple(part for part in parts if not isinstance(part, Grid) or part.rows)


def gist(value: Any) -> Any:
    """What of the document only changes when something happened."""
    if isinstance(value, Mapping):
        return {key: gist(item) for key, item in value.items() if key not in RESTLESS}
    return [gist(item) for item in value] if isinstance(value, list) else value


def _cell(text: object, tone: str = NONE) -> Cell:
    return Cell(printable("-" if text is None else str(text)), tone)


def _litellm(version: str | None, upgrade: Mapping[str, Any], now: float) -> Cell:
    told, pinned, last = version or "unknown version", upgrade.get("pinned"), upgrade.get("last")
    if pinned and pinned != version:
        told += f" (this supervisor was tested with {pinned})"
    if last and last["result"] != "done":
        return _cell(
            f"{told}; {last['action']} {last['result']} {ago(last['at'], now)}: {last['detail']}",
            TONES.get(last["result"], NONE),
        )
    return _cell(told)


def _slots(document: Mapping[str, Any]) -> str:
    count = sum(row["slot"] is not None for row in document["workers"])
    return f"{count} worker{'' if count == 1 else 's'} serving"


def _workers(document: Mapping[str, Any], now: float) -> Grid:
    columns = ("SLOT", "STATE", "PID", "GEN", "UPTIME", "RESTARTS", "MEMORY", "CPU", "LAST ENDING")
    return Grid(columns, tuple(_worker(row, now) for row in document["workers"]))


def _worker(row: Mapping[str, Any], now: float) -> tuple[Cell, ...]:
    state, ending, cpu, wait = row["state"], row.get("last_ending"), row.get("cpu"), row.get("backoff")
    last = f"{ending.get('told') or ending['cause']}, {ago(ending['at'], now)}" if ending else None
    return (
        _cell(row["slot"]),
        _cell(state if wait is None else f"{state} {spell(wait)}", TONES.get(state, NONE)),
        _cell(row.get("pid")),
        _cell(row["generation"]),
        _cell(spell(row["uptime"]) if row.get("uptime") else None),
        _cell(row.get("restarts")),
        _cell(memory(row.get("memory"), row.get("memory_growth"))),
        _cell(None if cpu is None else f"{cpu:.0%}"),
        _cell(last),
    )


def _models(document: Mapping[str, Any], now: float) -> Grid:
    words = {True: ("healthy", GOOD), False: ("unhealthy", BAD), None: ("not asked", DIM)}
    rows = (
        (_cell(_counted(model)), _cell(*words[model["healthy"]]), _cell(ago(model["checked"], now)),
         _cell(model.get("detail") or None))
        for model in document["models"]
    )  # fmt: skip
    return Grid(("MODEL", "HEALTH", "CHECKED", "DETAIL"), tuple(rows))


def _traffic(document: Mapping[str, Any]) -> Grid:
    """Of each model that was asked for in the last day, the last hour and the day."""
    rows = (document.get("traffic") or {"models": ()})["models"]
    columns = ("TRAFFIC", "IN FLIGHT", "LAST HOUR", "ERRORS", "FIRST TOKEN", "TOKENS/S", "LAST DAY", "ERRORS")
    return Grid(columns, tuple(map(_passed, rows)))


def _passed(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    hour, day = row["hour"], row["day"]
    return (
        _cell(row["name"]),
        _cell(row["in_flight"]),
        _cell(hour["requests"]),
        _cell(hour["errors"], BAD if hour["errors"] else NONE),
        _cell(first_token(hour)),
        _cell(hour["tokens_per_second"]),
        _cell(day["requests"]),
        _cell(day["errors"]),
    )


def _counted(model: Mapping[str, Any]) -> str:
    count = model.get("deployments", 1)
    return str(model["name"]) if count == 1 else f"{model['name']} x{count}"


def _ollama(ollama: Mapping[str, Any] | None) -> Cell:
    if ollama is None:
        return Cell("not watched", DIM)
    if not ollama["up"]:
        return _cell(f"down: {ollama.get('detail') or 'no answer'}", BAD)
    if ollama.get("stuck"):
        return _cell(f"stuck: {ollama['stuck']}", BAD)
    lists = [(key, ollama[key]) for key in ("models", "loaded", "missing") if ollama[key]]
    words = [f"up, version {ollama['version']}", *(f"{key}: {', '.join(names)}" for key, names in lists)]
    return _cell("; ".join(words), BUSY if ollama["missing"] else GOOD)


def _reload(report: Mapping[str, Any] | None, now: float) -> Cell:
    if report is None:
        return Cell("none yet", DIM)
    by = f" by {report['by']}" if report.get("by") else ""
    text = f"{report['result']} {ago(report['at'], now)}{by}: {report['detail']}"
    return _cell(text, TONES.get(report["result"], NONE))
