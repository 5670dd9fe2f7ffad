"""The models and Ollama: who asks how they are, and what may be done for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, Protocol, TypeVar
from urllib.parse import urlsplit

import anyio

from ccproxy_supervisor.core.answer import Answer, Failure, Fetch
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.model import Journal, OllamaStatus
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.values import is_loopback
from ccproxy_supervisor.core.wedge import Flow, Key, Runner
from ccproxy_supervisor.edge import command, runners
from ccproxy_supervisor.edge.care import OllamaActions, OllamaCare, OllamaSignals
from ccproxy_supervisor.edge.models import ModelWatch
from ccproxy_supervisor.edge.ollama import OllamaWatch
from ccproxy_supervisor.edge.warming import Warming
from ccproxy_supervisor.pool import Pool

P = ParamSpec("P")
T = TypeVar("T")


class Part(Protocol):
    async def run(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the parts are told by the daemon. *ask* asks a serving worker (path, timeout, body), None while there is none."""

    plan: Callable[[], Plan]
    ask: Callable[[str, float, bytes], Awaitable[Answer | Failure | None]]
    busy: Callable[[], bool]
    flow: Callable[[], Flow | None]
    grace: Callable[[], bool]
    wall: Callable[[], float]
    fetch: Fetch
    journal: Journal


class Upstreams:
    """Four parts, built and told of each plan together."""

    def __init__(
        self, around: Surroundings, spared: Callable[[str, float], Awaitable[Answer | Failure | None]]
    ) -> None:
        settings, models = around.plan().settings, around.plan().litellm.models
        tell, ollama = around.journal, settings.ollama
        self._ollama = OllamaWatch(around.fetch, tell, ollama, models, around.grace)
        self._models = ModelWatch(
            spared, self._ollama.harmless, around.busy, tell, around.wall, settings.models, models
        )
        status = lambda: self._ollama.status  # noqa: E731 - as it is then
        senses = OllamaSignals(
            status, around.flow, self.views, aside(partial(_runners, around.plan)), around.grace, around.wall
        )
        hands = OllamaActions(around.fetch, aside(runners.end), command.run)
        self._care = OllamaCare(senses, hands, tell, ollama, models)
        self._warming = Warming(around.ask, status, aside(partial(_server, around.plan)), tell, ollama, models)

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._ollama, self._models, self._care, self._warming

    def adopt(self, plan: Plan) -> None:
        """Tell all of them."""
        settings, models = plan.settings, plan.litellm.models
        self._models.adopt(settings.models, models)
        for part in (self._ollama, self._care, self._warming):
            part.adopt(settings.ollama, models)

    async def harmless(self, model: Model) -> bool:
        """Whether asking for *model* makes no Ollama load it."""
        return await self._ollama.harmless(model)

    def views(self) -> tuple[ModelView, ...]:
        return self._models.health.views

    def ollama(self) -> OllamaStatus | None:
        """What is known of Ollama now; None while it is not watched."""
        status = self._ollama.status
        return replace(status, stuck=self._care.stuck) if status else None


def flow(pool: Pool | None, plan: Plan, wholes: Callable[[Iterable[str]], tuple[int, int]]) -> Flow | None:
    """What the workers' doors say of completions; None while none of them says anything.

    Those that are in flight are of every model. *wholes* counts, of some models, the answers that came to their end and
    those that broke off: of interest are those that only Ollama answers.
    """
    now = anyio.current_time()
    told = [(seen, now - worker.path.now) for worker in (pool.workers if pool else []) if (seen := worker.path.traffic)]
    if not told:
        return None
    waiting = min((seen.waiting + age for seen, age in told if seen.inside), default=0.0)
    models = plan.litellm.models
    others = {model.name for model in models if model.ollama is None}
    return Flow(sum(seen.inside for seen, _ in told), waiting, *wholes({model.name for model in models} - others))


def aside(block: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Return *block*, which takes its time, as it is from a thread."""

    async def call(*args: P.args, **more: P.kwargs) -> T:
        return await anyio.to_thread.run_sync(partial(block, *args, **more))

    return call


def _runners(plan: Callable[[], Plan]) -> tuple[Runner, ...] | None:
    port = _port_here(plan())
    return None if port is None else runners.runners(port)


def _server(plan: Callable[[], Plan], known: Key | None) -> Key | None:
    port = _port_here(plan())
    return None if port is None else runners.server(port, known)


def _port_here(plan: Plan) -> int | None:
    """The port of our Ollama, if it is on this machine."""
    parts = urlsplit(plan.settings.ollama.url)
    here = is_loopback(parts.hostname or "")
    return (parts.port or 80) if here else None
