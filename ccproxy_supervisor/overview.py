"""What was last heard and measured, put together for status, metrics and incidents."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from anyio import current_time

from ccproxy_supervisor import __version__
from ccproxy_supervisor.core import status
from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.history import Day, History
from ccproxy_supervisor.core.model import (
    Child,
    Event,
    OllamaStatus,
    Probed,
    Reloaded,
    State,
    Status,
    Transition,
    Usage,
)
from ccproxy_supervisor.core.ollama import wanted
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.status import WorkerView
from ccproxy_supervisor.core.trend import Trend

BUSY = 0.2  # cores


class Samples:
    """Memory and CPU of the living workers, by number."""

    def __init__(self, measure: Callable[[Child], Usage | None], wall: Callable[[], float]) -> None:
        self._measure, self._wall = measure, wall
        self._trends: dict[int, Trend] = {}
        self._last: dict[int, tuple[float, Usage]] = {}
        self._cpu: dict[int, float] = {}

    def take(self, number: int, child: Child) -> Usage | None:
        """Measure now; a worker that cannot be measured has no sample."""
        if (usage := self._measure(child)) is None:
            return None
        now = current_time()
        before = self._last.get(number)
        if before and now - before[0] >= 1.0:
            self._cpu[number] = max(0.0, usage.cpu_seconds - before[1].cpu_seconds) / (now - before[0])
        if not before or now - before[0] >= 1.0:
            self._last[number] = (now, usage)
        self._trends.setdefault(number, Trend()).add(self._wall(), usage.memory)
        return usage

    def forget(self, number: int) -> None:
        for store in (self._trends, self._last, self._cpu):
            store.pop(number, None)

    def busy(self) -> bool:
        """Whether some worker computes right now: a moment to leave it alone."""
        return any(cpu > BUSY for cpu in self._cpu.values())

    def memory(self, number: int) -> tuple[tuple[float, int], ...]:
        trend = self._trends.get(number)
        return trend.samples if trend else ()

    def row(self, view: WorkerView) -> dict[str, Any]:
        last, trend = self._last.get(view.number), self._trends.get(view.number)
        alive = view.state not in (State.BACKOFF, State.GONE)
        usage = last[1] if last and alive else None
        return status.worker(view, usage, self._cpu.get(view.number), trend.slope() if trend else None)


@dataclass(frozen=True, slots=True)
class Scene:
    """The heart as it is now; *why* says what is waited for before there is one."""

    plan: Plan
    views: list[WorkerView]
    generation: int = 0
    ever_served: bool = False
    stopping: bool = False
    why: str = ""


class Overview:
    """A listener of the journal that answers `/status`. What others know it asks them for, at every look."""

    def __init__(
        self, home: str, scene: Callable[[], Scene], samples: Samples, models: Callable[[], Iterable[ModelView]],
        ollama: Callable[[], OllamaStatus | None], incident: Callable[[], str], upgrade: Callable[[], dict[str, Any]],
        traffic: Callable[[], dict[str, Any]], lives: Callable[[], dict[str, Any]], wall: Callable[[], float],
    ) -> None:  # fmt: skip
        self._home, self._scene, self._samples, self._models, self._ollama = home, scene, samples, models, ollama
        self._incident, self._upgrade, self._traffic = incident, upgrade, traffic
        self._lives, self._wall = lives, wall
        self._started = current_time()
        self._reload: tuple[Reloaded, float] | None = None
        self._history = History()

    def __call__(self, event: Event) -> None:
        match event:
            case Reloaded(order=order) if self._reload is None or order >= self._reload[0].order:
                self._reload = (event, self._wall())
            case Transition(number=number, new=State.GONE, ending=ending):
                self._samples.forget(number)
                if ending:
                    self._history.ended(event, ending)
        if not isinstance(event, Probed):  # what a probe changes comes as another event
            self._look()

    def resume(self, day: Day) -> None:
        """Go on from the last *day* of an earlier supervisor."""
        self._history = History(day, self._wall())
        self._look()

    def day(self) -> Day:
        return self._history.saved(self._wall())

    def status(self) -> Status:
        scene = self._scene()
        return status.judge(scene.views, self._reasons(scene), ever_served=scene.ever_served, stopping=scene.stopping)

    def health(self) -> dict[str, Any]:
        return status.summary(self._facts())

    def document(self) -> dict[str, Any]:
        """Build the answer of `/status`."""
        return self._facts() | {"traffic": self._traffic()}

    def _facts(self) -> dict[str, Any]:
        scene, now = self._scene(), self._look()
        plan, settings = scene.plan, scene.plan.settings
        left_out = status.left_out(scene.views)
        return {
            "status": str(now), "reasons": self._reasons(scene), "detail": scene.why,
            "uptime": round(current_time() - self._started, 1),
            "version": __version__, "pid": os.getpid(), "home": self._home, "generation": scene.generation,
            "supervisor": self._lives(),
            "listen": {"host": settings.proxy.host, "port": settings.proxy.port},
            "serving": sum(view.state is State.SERVING for view in scene.views),
            "workers": [self._samples.row(view) for view in scene.views],
            "models": [status.model(view, left_out.get(view.name)) for view in self._models()],
            "ollama": status.ollama(self._ollama()),
            "reload": status.reload(*(self._reload or (None, None))),
            "litellm": plan.birth.litellm_version, "upgrade": self._upgrade(),
            "history": self._history.document(self._wall()),
            "last_incident": self._incident(),
        }  # fmt: skip

    def _look(self) -> Status:
        """Note in the history how things are."""
        now = self.status()
        slots = {view.slot: str(view.state) for view in self._scene().views if view.slot is not None}
        self._history.observe(self._wall(), str(now), slots)
        return now

    def _reasons(self, scene: Scene) -> list[str]:
        plan, settings = scene.plan, scene.plan.settings
        needs = bool(wanted(plan.litellm.models, settings.ollama.url))
        return status.reasons(scene.views, settings.proxy.workers, self._ollama(), self._models(), needs_ollama=needs)
