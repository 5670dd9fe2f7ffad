"""The nouns. Frozen values, enums and ports; no I/O, no clock, no event loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from ccproxy_supervisor.core.wedge import Loaded


class State(StrEnum):
    """Where a worker is; `BACKOFF` is a place between two workers."""

    STARTING = "starting"
    STANDBY = "standby"
    SERVING = "serving"
    DRAINING = "draining"
    BACKOFF = "backoff"
    GONE = "gone"


#: The state diagram of a worker. A move that is not listed here is a bug and raises.
MOVES: dict[State | None, frozenset[State]] = {
    None: frozenset({State.STARTING, State.SERVING}),  # the latter has outlived its supervisor
    State.STARTING: frozenset({State.STANDBY, State.DRAINING, State.GONE}),
    State.STANDBY: frozenset({State.SERVING, State.DRAINING, State.GONE}),
    State.SERVING: frozenset({State.DRAINING, State.GONE}),
    State.DRAINING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


class Cause(StrEnum):
    """Why a worker ended."""

    EXITED = "exited"  # of its own accord, or killed by someone else
    SPAWN_FAILED = "spawn_failed"
    START_TIMEOUT = "start_timeout"
    UNRESPONSIVE = "unresponsive"
    MEMORY = "memory"
    AGE = "age"
    RELOAD = "reload"
    RESTART = "restart"
    UPGRADE = "upgrade"
    STOP = "stop"

    @property
    def planned(self) -> bool:
        """Whether we asked for it: planned endings are no failures and need no incident."""
        return self not in (Cause.EXITED, Cause.SPAWN_FAILED, Cause.START_TIMEOUT, Cause.UNRESPONSIVE)


class Status(StrEnum):
    """The service as its users see it."""

    STARTING = "starting"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker's life ended. *uptime* in seconds; *status* negative: killed by that signal; *at* is wall time."""

    cause: Cause
    uptime: float
    at: float
    status: int | None = None
    detail: str = ""
    output: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a worker says of its public door: connections *taken* so far, completions *inside*, and for how many seconds
    these have been *waiting* though none of them went on."""

    taken: int
    inside: int
    waiting: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer of a probe. *reason* is one of `PROBE_REASONS`, empty when it went well; *traffic* is told by liveness."""

    ok: bool
    seconds: float
    reason: str = ""
    detail: str = ""
    traffic: Traffic | None = None

    @property
    def blames(self) -> bool:
        """Whether it speaks against whom was asked."""
        return not self.ok and self.reason != UNASKED


UNASKED = "unasked"  # the question could not be put, for want of something of our own
PROBES = ("liveness", "readiness", "models", "ollama")
PROBE_REASONS = ("timeout", "refused", "status", "garbage", "too_large", UNASKED)
RELOAD_RESULTS = ("applied", "rolled", "unchanged", "refused", "failed")
SUPERSEDED = "superseded by a newer order"  # why a reload "failed" whose files that order has read anew
LOGS = ("supervisor", "litellm", "stdout", "stderr")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses now; bytes and CPU seconds since its start."""

    memory: int
    cpu_seconds: float
    fds: int
    threads: int


# Events: everything the heart and the watches have to say. The journal is the one door they leave by.


@dataclass(frozen=True, slots=True)
class Transition:
    """A worker (by *number*) or its place moved from *old* to *new*. *since* is seconds spent in *old*; who is *adopted* was
    started by an earlier supervisor."""

    number: int
    slot: int | None
    generation: int
    old: State | None
    new: State
    since: float = 0.0
    pid: int | None = None
    ending: Ending | None = None
    delay: float | None = None
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class Failover:
    """*slot* lost its serving worker without our asking and has another one after *seconds*."""

    slot: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe answered. *subject* names what was asked: `slot 0`, a model, `ollama`."""

    probe: str
    subject: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload ended with one of `RELOAD_RESULTS`. *order* counts what was ordered: a later order may be answered first."""

    result: str
    detail: str
    by: str
    changes: tuple[str, ...] = ()
    order: int = 0


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """What is known of a model changed; *healthy* is None when what LiteLLM said last no longer counts."""

    name: str
    healthy: bool | None
    detail: str = ""
    before: bool | None = None


@dataclass(frozen=True, slots=True)
class OllamaStatus:
    """What Ollama last said, and which models of LiteLLM's config it lacks (*missing*, as the config names them)."""

    up: bool
    version: str | None = None
    models: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    detail: str = ""
    running: tuple[Loaded, ...] = ()
    """Those in *loaded*, with all that it says of them."""
    stuck: str = ""
    """Why it generates nothing though it answers; empty while it does, as far as is known."""


@dataclass(frozen=True, slots=True)
class Helped:
    """A step of `ollama.help` was taken, for *why*; *wrong* says what became of it when it could not be done."""

    step: str
    why: str
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Anything else worth a log line: *event* is `noun.past_participle`."""

    event: str
    level: str = "info"
    fields: dict[str, Any] = field(default_factory=dict)


UNKNOWN = "how it ended is not known: an earlier supervisor had started it"  # of who is not our child

Event = Transition | Failover | Probed | Reloaded | ModelSeen | OllamaStatus | Helped | Note
Journal = Callable[[Event], None]


class SpawnError(Exception):
    """A worker could not be started; worth another try."""


class Child(Protocol):
    """One LiteLLM process, as the heart sees it. *number* is the worker's, never used twice in a supervisor's life."""

    number: int
    pid: int

    async def wait(self) -> int | None:
        """Return the exit status once the process is reaped; negative: killed by that signal; None: nobody could tell."""

    async def ready(self) -> Mapping[str, str]:
        """Return once the process says that its private socket answers: the models that its LiteLLM dropped, and why."""

    async def activate(self, slot: int | None) -> None:
        """Tell it to accept on the public socket, in *slot*; return once it says so."""

    async def draining(self) -> None:
        """Return once it says that it accepts no more on the public socket, asked or not."""

    def provide(self, plan: Any, generation: int) -> None:
        """Tell it how to go on if this supervisor dies: what it is told last counts."""

    def drain(self, seconds: float) -> None:
        """Tell it to stop accepting, finish what is in flight for at most *seconds*, and leave."""

    def inform(self, facts: dict[str, Any]) -> None:
        """Tell it what to answer to who asks for the health of the service."""

    def signal(self, number: int) -> None:
        """Send *number* to its process group, if it is still there."""

    async def output(self) -> tuple[str, ...]:
        """Return the last lines it wrote, secrets removed; waits a moment for what is still in the pipes."""


class Spawn(Protocol):
    """Starts a worker; leaving the context kills what is still alive and reaps it. Who is cancelled in it leaves the worker
    to the next supervisor."""

    def __call__(self, number: int, plan: Any) -> AbstractAsyncContextManager[Child]: ...


@dataclass(frozen=True, slots=True)
class Survivor:
    """A worker that has outlived its supervisor, `STARTING` or `SERVING`. *age* in seconds; *plan* is what it was born with;
    *take* is to it what `Spawn` is to others."""

    number: int
    pid: int
    generation: int
    slot: int | None
    state: State
    age: float
    plan: Any
    take: Callable[[], AbstractAsyncContextManager[Child]]
