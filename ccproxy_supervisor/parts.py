"""Every part of the daemon, who hears whom, and what the parts ask of each other: the only place that knows both the heart
and the world."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial

import anyio

from ccproxy_supervisor import __version__
from ccproxy_supervisor.adopter import Adopter
from ccproxy_supervisor.alerting import Alerting
from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.model import Child, Event, Status
from ccproxy_supervisor.core.notices import Trouble
from ccproxy_supervisor.core.ollama import wanted
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.troubles import standing
from ccproxy_supervisor.edge import exits, process, usage, watchdog
from ccproxy_supervisor.edge.births import Births
from ccproxy_supervisor.edge.capacity import Capacity
from ccproxy_supervisor.edge.fetch import fetch
from ccproxy_supervisor.edge.gauges import Gauges, ProcessGauges, Reading, Sources
from ccproxy_supervisor.edge.holding import Holding
from ccproxy_supervisor.edge.home import Home
from ccproxy_supervisor.edge.home.reading import read_plan
from ccproxy_supervisor.edge.incidents import Incidents
from ccproxy_supervisor.edge.journal import Writer
from ccproxy_supervisor.edge.launcher import Launcher
from ccproxy_supervisor.edge.logs import LogSink
from ccproxy_supervisor.edge.metrics import Metrics
from ccproxy_supervisor.edge.notify import Notifier
from ccproxy_supervisor.edge.ownership import Ownership
from ccproxy_supervisor.edge.preload import Preloaders
from ccproxy_supervisor.edge.restorer import Restore, Restorer, restore_folder
from ccproxy_supervisor.edge.state import StateFile
from ccproxy_supervisor.edge.terminal import Terminal
from ccproxy_supervisor.edge.traffic import Tallies, TrafficNumbers
from ccproxy_supervisor.edge.upgrades import Upgrades
from ccproxy_supervisor.edge.wake import Wake
from ccproxy_supervisor.event_bus import EventBus, each
from ccproxy_supervisor.health_feed import HealthFeed
from ccproxy_supervisor.orders import Orders
from ccproxy_supervisor.overview import Overview, Samples, Scene
from ccproxy_supervisor.persistence import Persistence
from ccproxy_supervisor.pool import Pool
from ccproxy_supervisor.prober import REPORT, Prober
from ccproxy_supervisor.recovery import Recovery
from ccproxy_supervisor.renewer import Image, Renewer
from ccproxy_supervisor.supervisor import Supervisor
from ccproxy_supervisor.upstreams import Surroundings, Upstreams, flow


class Parts:
    """*verbose* shows on standard error what happens."""

    def __init__(self, home: Home, plan: Plan, owned: Ownership, image: Image, *, verbose: bool) -> None:
        settings = plan.settings
        self.home, self.plan, self.owned = home, plan, owned
        self.events = EventBus()
        self.tell = self.events.tell
        self.supervisor: Supervisor | None = None
        self.waiting = anyio.CancelScope()
        self.loop, self.context = asyncio.get_running_loop(), copy_context()  # a thread's would not know the loop
        self.samples = Samples(usage.usage, time.time)
        self.logs = LogSink(home.path(settings.logs.directory), settings.logs, self.tell_from_thread, spools=home.run)
        self.logs.hide(plan.secrets)
        self.terminal = Terminal(sys.stderr.fileno()) if verbose else None
        self.writer = Writer(
            partial(self.logs.write, "supervisor"), settings.logs.level, self.show if verbose else None
        )
        self.incidents = Incidents(home.run / "incidents", self.tell, self.samples.memory)
        self.upgrades = Upgrades(home.run)
        self.wake = Wake(self.tell, every=watchdog.TICK)
        self.tallies = Tallies(home.run, self.tell_from_thread, time.time)
        self.upstreams = Upstreams(
            Surroundings(
                lambda: self.plan, self.ask_serving, self.samples.busy, lambda: flow(self.pool, self.plan, self.tallies.wholes), self.wake.grace, time.time, fetch, self.tell
            ),
            self.wake.sparing(self.ask_serving),
        )  # fmt: skip
        self.renewer = Renewer(
            home.run,
            image,
            lambda: self.plan,
            partial(read_plan, home, os.environ),
            lambda: self.recovery.activated,
            lambda: self.generation > 0,
            self.tell,
        )
        self.overview = Overview(
            str(home.folder), self.scene, self.samples, self.upstreams.views, self.upstreams.ollama,
            self.incidents.latest_line, self.upgrades.document, self.tallies.document, self.renewer.document, time.time,
        )  # fmt: skip
        self.launcher = Launcher(home.run)
        self.births = Births(home.run / "births", self.tell)
        self.adopter = Adopter(home.run, self.logs.adopt_capture, self.tell)
        self.recovery = Recovery(
            lambda: self.plan.settings, self.adopter, self.launcher.started, self.logs.collect,
            self.renewer.listener, self.tell,
        )  # fmt: skip
        self.recovery.activated = image.arrival.handed.activated
        self.state = StateFile(home.run / "state.json", self.tell_from_thread)
        self.persistence = Persistence(
            self.state,
            lambda: self.pool.slots if self.pool else (),
            lambda: self.recovery.remaining,
            self.overview.day,
            lambda: (self.renewer.restarts, self.renewer.renewals),
        )
        self.holding = Holding()
        self.watchdog = watchdog.Watchdog(home.run / "stuck-stack.txt")
        self.prober = Prober(self.visit, lambda: self.plan, fetch)
        capture = lambda _: self.logs.capture()  # noqa: E731 - of no worker
        self.preloaders = Preloaders(plan, home.folder, self.launcher, capture, exits.ended, exits.start, self.tell)
        self.orders = Orders(self, self.prober, image.signals, self.logs.rotate, self.tell)
        self.gauges = Gauges(self._sources(), __version__)
        self.gauges.adopt(*_labels(plan))
        capacity = Capacity(
            lambda: home.path(self.plan.settings.logs.directory), lambda: self.plan.settings.proxy.max_memory
        )
        self.metrics = Metrics(
            [self.gauges, ProcessGauges(), TrafficNumbers(self.tallies.totals), capacity, self.upgrades]
        )
        self.notifier = Notifier(plan.contacts, socket.gethostname(), self._serves, self.tell)
        self.alerting = Alerting(self._troubles, self.notifier.tell, self.logs.mask)
        self.restorer = Restorer(self.tell, self._kept)
        self.events.listeners += [
            self.writer,
            self.metrics,
            self.incidents,
            self.overview,
            self.persistence,
            self.tallies,
        ]
        self.events.listeners += [HealthFeed(self.overview.health, self.children), self.alerting]

    def _kept(self) -> Iterator[tuple[str, Restore]]:
        """What is put back when somebody removes it."""
        sockets = self.home.path(self.plan.settings.admin.socket).parent
        yield "run", partial(restore_folder, self.home.run, private=True)
        yield "run/supervisor.lock", self.owned.restore
        yield "the folder of admin.socket", partial(restore_folder, sockets)
        yield "run/state.json", self.state.restore
        yield "run/incidents", self.incidents.restore
        yield "run/stuck-stack.txt", self.watchdog.restore
        yield "logs", self.logs.restore

    def tell_from_thread(self, event: Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: the last log lines have nowhere to go
            self.loop.call_soon_threadsafe(self.tell, event, context=self.context)

    def show(self, line: bytes) -> None:
        if self.terminal:
            self.terminal.show(self.logs.mask(line))

    @property
    def pool(self) -> Pool | None:
        return self.supervisor.pool if self.supervisor else None

    def children(self) -> list[Child]:
        return [worker.child for worker in self.pool.workers if worker.child] if self.pool else []

    @property
    def why(self) -> str:
        return "" if self.supervisor else self.recovery.why

    @property
    def generation(self) -> int:
        return self.pool.generation if self.pool else 0

    async def prove_successor(self) -> str:
        return await self.renewer.prove()

    def renew(self, by: str, follower: str) -> None:
        self.renewer.order(by, follower)
        if self.supervisor:
            self.supervisor.leave()

    def give_up(self) -> None:
        self.adopter.let_go()
        self.waiting.cancel()

    def read(self, python: str | None = None) -> Plan:
        plan = read_plan(self.home, os.environ, python)
        if lost := [fault for name, fault in plan.litellm.dropped if name not in dict(self.plan.litellm.dropped)]:
            raise ConfigError(lost)
        self.logs.hide({*self.plan.secrets, *plan.secrets})
        return plan

    def adopt(self, plan: Plan) -> None:
        """Tell the edges of a plan in force; one that cannot take it up is told of, and keeps nobody from it."""
        settings = plan.settings
        self.plan = plan
        each(
            [
                self._forget_births,
                partial(self.logs.adopt, settings.logs, self.home.path(settings.logs.directory)),
                partial(self.writer.adopt, settings.logs.level),
                partial(self.preloaders.adopt, plan),
                partial(self.notifier.adopt, plan.contacts),
                partial(self.upstreams.adopt, plan),
                lambda: self.gauges.adopt(*_labels(plan)),
            ]
        )

    def visit(self, number: int) -> socket.socket:
        """Connect to worker *number*; raises OSError."""
        workers = self.pool.workers if self.pool else []
        return process.visit(next((worker.child for worker in workers if worker.number == number), None))

    def _forget_births(self) -> None:
        """A worker may read on what it was born from, one that is being seen off too."""
        workers = self.pool.workers if self.pool else []
        if not self.recovery.remaining:
            self.births.forget([self.plan.birth, *(worker.plan.birth for worker in workers)])

    async def ask_serving(self, path: str, timeout: float, body: bytes = b"") -> Answer | Failure | None:
        """Ask a serving worker for *path*; None while there is none. An upstream's error may repeat a key."""
        workers = self.pool.workers if self.pool else []
        serving = next((worker.number for worker in workers if worker.serving), None)
        if serving is None:
            return None
        method = "POST" if body else "GET"
        answer = await self.prober.ask(serving, path, timeout, limit=REPORT, method=method, body=body)
        return replace(answer, body=self.logs.mask(answer.body)) if isinstance(answer, Answer) else answer

    def scene(self) -> Scene:
        if self.supervisor is None or self.pool is None:
            return Scene(self.plan, [], ever_served=bool(self.why), why=self.why)
        supervisor = self.supervisor
        return Scene(self.plan, self.pool.views(), self.generation, supervisor.ever_served, supervisor.stopping)

    def _troubles(self) -> list[Trouble]:
        if self.pool is None:
            return []
        needs = bool(wanted(self.plan.litellm.models, self.plan.settings.ollama.url))
        return standing(self.pool.views(), self.upstreams.ollama(), self.upstreams.views(), needs_ollama=needs)

    def _serves(self) -> bool:
        return self.overview.status() in (Status.HEALTHY, Status.DEGRADED)

    def _sources(self) -> Sources:
        return Sources(
            status=self.overview.status,
            generation=lambda: self.generation,
            workers=self._readings,
            logs=self.logs.counters,
            held=lambda: self.holding.answered,
            models=self.upstreams.views,
            ollama=self.upstreams.ollama,
        )

    def _readings(self) -> list[Reading]:
        children = {worker.number: worker.child for worker in self.pool.workers} if self.pool else {}
        used = {number: self.samples.take(number, child) for number, child in children.items() if child}
        views = self.pool.views() if self.pool else []
        return [Reading(v.number, v.slot, v.state, v.uptime, used.get(v.number), v.backoff or 0.0) for v in views]


def _labels(plan: Plan) -> tuple[int, tuple[str, ...], str | None]:
    """What the metrics' labels are made of: slots, what is wanted of Ollama, LiteLLM's version."""
    tags = wanted(plan.litellm.models, plan.settings.ollama.url) if plan.settings.ollama.enabled else ()
    return plan.settings.proxy.workers, tags, plan.birth.litellm_version
