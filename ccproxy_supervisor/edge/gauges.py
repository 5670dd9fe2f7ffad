"""The numbers that are asked for when Prometheus scrapes, not counted: what is, rather than what happened."""

from __future__ import annotations

import platform
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, TypeVar

import psutil

from ccproxy_supervisor.core.exposition import Counter, Family, Gauge
from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import LOGS, OllamaStatus, State, Status, Usage
from ccproxy_supervisor.core.ollama import lacking


@dataclass(frozen=True, slots=True)
class Reading:
    """One worker now, or a place in backoff; *uptime* and *backoff* in seconds."""

    number: int
    slot: int | None
    state: State
    uptime: float = 0.0
    usage: Usage | None = None
    backoff: float = 0.0


class LogCounters(Protocol):
    @property
    def bytes(self) -> int: ...
    @property
    def rotations(self) -> int: ...
    @property
    def dropped(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Asked at every scrape, so each is quick. *held* counts the requests the supervisor answered itself.

    *ollama* is None while Ollama is not watched.
    """

    status: Callable[[], Status]
    generation: Callable[[], int]
    workers: Callable[[], Iterable[Reading]]
    logs: Callable[[], Mapping[str, LogCounters]]
    held: Callable[[], int]
    models: Callable[[], Iterable[ModelView]]
    ollama: Callable[[], OllamaStatus | None]


NOTHING = Usage(0, 0.0, 0, 0)
#: Of two workers in one slot, the first of these is shown.
FOREMOST = (State.SERVING, State.STANDBY, State.STARTING, State.BACKOFF, State.DRAINING)
SLOT_GAUGES: tuple[tuple[str, str, Callable[[Reading], float]], ...] = (
    ("backoff_seconds", "Wait before the slot's next worker.", lambda r: r.backoff),
    ("uptime_seconds", "Age of the slot's worker.", lambda r: r.uptime),
    ("resident_memory_bytes", "Resident memory of the slot's worker.", lambda r: (r.usage or NOTHING).memory),
    ("open_fds", "Open file descriptors of the slot's worker.", lambda r: (r.usage or NOTHING).fds),
    ("threads", "Threads of the slot's worker.", lambda r: (r.usage or NOTHING).threads),
)
MODEL_GAUGES: tuple[tuple[str, str, Callable[[ModelView], float]], ...] = (
    ("healthy", "Whether a deployment of the model answered when LiteLLM was last asked.", lambda v: bool(v.healthy)),
    ("checked_timestamp_seconds", "When that was; 0: never.", lambda v: 0 if v.healthy is None else v.checked or 0),
    ("asked", "Whether the model is asked at all.", lambda v: v.asked),
    ("deployments", "Deployments of the model in LiteLLM's config.", lambda v: v.deployments),
    ("healthy_deployments", "Those that answered when last asked.", lambda v: v.well or 0),
)
LOG_COUNTERS: tuple[tuple[str, str, Callable[[LogCounters], int]], ...] = (
    ("bytes", "Bytes written to the log.", lambda c: c.bytes),
    ("rotations", "Rotations of the log.", lambda c: c.rotations),
    ("dropped_bytes", "Bytes that could not be written to the log.", lambda c: c.dropped),
)

Rows = Iterable[tuple[object, float]]
Asked = TypeVar("Asked", Gauge, Counter)


class Gauges:
    """A collector for the registry."""

    def __init__(self, sources: Sources, version: str) -> None:
        self._sources, self._version, self._litellm = sources, version, ""
        self._cpu: dict[int, float] = {}  # by slot, over all its workers: it never falls
        self._cpu_seen: dict[int, float] = {}  # by worker
        self._wanted: tuple[str, ...] = ()

    def adopt(self, slots: int, ollama: Iterable[str], litellm: str | None) -> None:
        """Fix the label sets: slots, tags wanted of Ollama, LiteLLM's version."""
        self._cpu = {slot: self._cpu.get(slot, 0.0) for slot in range(slots)}
        self._wanted, self._litellm = tuple(dict.fromkeys(ollama)), litellm or ""

    def collect(self) -> Iterator[Family]:
        """Answer the registry."""
        now = self._sources
        build = Gauge("ccproxy_build_info", "What runs.", ("version", "python", "litellm"))
        build.add_metric([self._version, platform.python_version(), self._litellm], 1)
        yield build
        status = now.status()
        yield _gauge("ccproxy_status", "1 at the service's status.", [(s, s is status) for s in Status], "status")
        yield _gauge("ccproxy_generation", "Configurations that were rolled out.", [("", now.generation())])
        yield _counter("ccproxy_held_requests", "Requests answered 503 by the supervisor.", [("", now.held())])
        yield from self._workers(tuple(now.workers()))
        yield from _models(tuple(now.models()))
        yield from self._of_ollama(now.ollama() or OllamaStatus(up=False))
        logs = now.logs()
        for name, text, count in LOG_COUNTERS:
            rows = [(log, count(logs[log]) if log in logs else 0) for log in LOGS]
            yield _counter(f"ccproxy_log_{name}", text, rows, "log")

    def _workers(self, readings: tuple[Reading, ...]) -> Iterator[Family]:
        counts = [(state, sum(r.state is state for r in readings)) for state in State]
        yield _gauge("ccproxy_workers", "Workers, and places in backoff, by state.", counts, "state")
        self._add_cpu(readings)
        yield _counter("ccproxy_worker_cpu_seconds", "CPU time of the slot's workers.", self._cpu.items(), "slot")
        shown = [_foremost(slot, readings) for slot in self._cpu]
        for name, text, number in SLOT_GAUGES:
            yield _gauge(f"ccproxy_worker_{name}", text, [(r.slot, number(r)) for r in shown], "slot")

    def _add_cpu(self, readings: tuple[Reading, ...]) -> None:
        """Add what each worker used since the last scrape; one that could not be read is not counted anew later."""
        used = {r.number: r.usage.cpu_seconds if r.usage else self._cpu_seen.get(r.number, 0.0) for r in readings}
        for r in readings:
            if r.slot in self._cpu:
                self._cpu[r.slot] += max(0.0, used[r.number] - self._cpu_seen.get(r.number, 0.0))
        self._cpu_seen = used

    def _of_ollama(self, ollama: OllamaStatus) -> Iterator[Family]:
        yield _gauge("ccproxy_ollama_up", "Whether Ollama answers as it should.", [("", ollama.up)])
        yield _gauge("ccproxy_ollama_stuck", "Whether it answers and generates nothing.", [("", bool(ollama.stuck))])
        for name, text, there in (
            ("available", "Whether Ollama has the model.", ollama.models),
            ("loaded", "Whether Ollama has the model in memory.", ollama.loaded),
        ):
            away = lacking(self._wanted, there)
            rows = [(tag, tag not in away) for tag in self._wanted]
            yield _gauge(f"ccproxy_ollama_model_{name}", text, rows, "model")


class ProcessGauges:
    """The standard `process_*`, on macOS too: the client's own collector reads /proc."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def collect(self) -> Iterator[Family]:
        """Answer the registry."""
        if (seen := known(self._look, None)) is None:
            return
        cpu, memory, fds, born = seen
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield _counter("process_cpu_seconds", "Total user and system CPU time spent.", [("", cpu.user + cpu.system)])
        for name, text, number in (
            ("resident_memory_bytes", "Resident memory size.", memory.rss),
            ("virtual_memory_bytes", "Virtual memory size.", memory.vms),
            ("start_time_seconds", "Start time of the process since the epoch.", born),
            ("open_fds", "Number of open file descriptors.", fds),
            ("max_fds", "Maximum number of open file descriptors.", inf if most == resource.RLIM_INFINITY else most),
        ):
            yield _gauge(f"process_{name}", text, [("", number)])

    def _look(self) -> tuple[Any, Any, int, float]:
        with self._process.oneshot():
            cpu, memory = self._process.cpu_times(), self._process.memory_info()
            return cpu, memory, self._process.num_fds(), self._process.create_time()


def _models(views: Iterable[ModelView]) -> Iterator[Family]:
    """One row a name, however many deployments it has."""
    for name, text, number in MODEL_GAUGES:
        yield _gauge(f"ccproxy_model_{name}", text, [(view.name, number(view)) for view in views], "model")


def _foremost(slot: int, readings: Iterable[Reading]) -> Reading:
    mine = [r for r in readings if r.slot == slot and r.state in FOREMOST]
    return min(mine, key=lambda r: FOREMOST.index(r.state), default=Reading(0, slot, State.GONE))


def _gauge(name: str, text: str, rows: Rows, label: str = "") -> Gauge:
    return _add(Gauge(name, text, (label,) if label else ()), rows)


def _counter(name: str, text: str, rows: Rows, label: str = "") -> Counter:
    return _add(Counter(name, text, (label,) if label else ()), rows)


def _add(family: Asked, rows: Rows) -> Asked:
    for value, number in rows:
        family.add_metric([str(value)] if value != "" else [], number)
    return family
