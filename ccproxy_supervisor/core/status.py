"""The service as one answer: a status word, and the document that `status` and `/status` show."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.incident import happened, in_words
from ccproxy_supervisor.core.model import Ending, OllamaStatus, Reloaded, State, Status, Usage


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A place and its worker as they are now; *backoff* is seconds until the next worker, None outside of it.

    *python* is the interpreter of this worker and of those that follow it here. *failed*: this supervisor lost a worker
    here unasked; *last_ending* may be of an earlier supervisor's, or planned. *adopted*: an earlier one started it.
    """

    slot: int | None
    state: State
    number: int
    pid: int | None
    generation: int
    uptime: float
    restarts: int = 0
    backoff: float | None = None
    last_ending: Ending | None = None
    python: str = ""
    failed: bool = False
    adopted: bool = False
    dropped: tuple[tuple[str, str], ...] = ()
    """Models that it does not serve, and why."""


def left_out(workers: Iterable[WorkerView]) -> dict[str, str]:
    """The models of the config that those who serve do not have, and why."""
    return {name: why for view in workers if view.state is State.SERVING for name, why in view.dropped}


def reasons(
    workers: Collection[WorkerView], wanted: int, ollama: OllamaStatus | None, models: Iterable[ModelView],
    *, needs_ollama: bool,
) -> list[str]:  # fmt: skip
    """Say what is not as it should be. Ollama counts only if a configured model lives there."""
    found = []
    serving = sum(view.state is State.SERVING for view in workers)
    if serving < wanted:
        found.append(f"{serving or 'none'} of {wanted} worker{'s' * (wanted > 1)} serving")
    if needs_ollama and ollama and not ollama.up:
        found.append(f"Ollama does not answer: {ollama.detail or 'down'}")
    elif needs_ollama and ollama and ollama.missing:
        found.append(f"Ollama does not have {', '.join(ollama.missing)}")
    if needs_ollama and ollama and ollama.stuck:
        found.append(f"Ollama is stuck: {ollama.stuck}")
    found += [f"LiteLLM dropped model {name}: {why}" for name, why in left_out(workers).items()]
    return found + [
        f"model {model.name} fails: {model.detail or 'unknown reason'}" for model in models if model.healthy is False
    ]


def judge(views: Collection[WorkerView], unwell: Collection[str], *, ever_served: bool, stopping: bool) -> Status:
    """Say how the service is, given what `reasons` found *unwell*."""
    if stopping:
        return Status.STOPPING
    if not any(view.state is State.SERVING for view in views):
        return Status.UNHEALTHY if ever_served or any(view.failed for view in views) else Status.STARTING
    return Status.DEGRADED if unwell else Status.HEALTHY


def worker(view: WorkerView, usage: Usage | None, cpu: float | None, growth: float | None) -> dict[str, Any]:
    """One row of the document; *cpu* in cores, *growth* in bytes an hour, null before they are known."""
    row: dict[str, Any] = {
        "slot": view.slot, "state": str(view.state), "worker": view.number, "pid": view.pid,
        "generation": view.generation, "uptime": round(view.uptime, 1), "memory": usage and usage.memory,
        "memory_growth": growth and round(growth), "cpu": cpu and round(cpu, 3),
        "python": view.python, "adopted": view.adopted,
    }  # fmt: skip
    if view.slot is not None:
        row |= {"restarts": view.restarts, "last_ending": view.last_ending and ending(view.last_ending)}
    if view.backoff is not None:
        row["backoff"] = round(view.backoff, 1)
    return row


def ending(last: Ending) -> dict[str, Any]:
    row = {
        "cause": str(last.cause), "status": last.status, "at": stamp(last.at), "uptime": round(last.uptime, 1),
        "detail": last.detail, "output": list(last.output),
    }  # fmt: skip
    return row | {"told": happened(row | {"exit": "" if last.status is None else in_words(last.status)})}


def model(view: ModelView, why: str | None = None) -> dict[str, Any]:
    """One row a name; `upstream` is the first deployment's, kept for those who knew only one. *why* LiteLLM dropped it."""
    gone = why is not None and view.deployments == 1
    return {
        "name": view.name, "healthy": False if gone else view.healthy, "checked": stamp(view.checked),
        "detail": f"LiteLLM dropped it: {why}" if why else view.detail,
        "asked": view.asked, "deployments": view.deployments, "healthy_deployments": view.well,
        "upstream": view.upstreams[0] if view.upstreams else "", "upstreams": list(view.upstreams),
    }  # fmt: skip


def ollama(status: OllamaStatus | None) -> dict[str, Any] | None:
    """None when Ollama is not watched, or has not been asked yet."""
    if status is None:
        return None
    return {
        "up": status.up, "version": status.version, "models": list(status.models), "missing": list(status.missing),
        "loaded": list(status.loaded), "detail": status.detail, "stuck": status.stuck or None,
    }  # fmt: skip


def reload(report: Reloaded | None, at: float | None) -> dict[str, Any] | None:
    if report is None:
        return None
    changes: Sequence[str] = report.changes
    return {
        "result": report.result,
        "at": stamp(at),
        "detail": report.detail,
        "by": report.by,
        "changes": list(changes),
    }


def stamp(at: float | None) -> str | None:
    """Write wall time as `2026-11-23T08:00:00Z`."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """What `/health` shows of the document."""
    keys = ("status", "uptime", "version", "generation", "detail")
    names = list(dict.fromkeys(upstream for model in document["models"] for upstream in model["upstreams"]))
    return {key: document[key] for key in keys} | {"models": names, "serving": document["serving"]}
