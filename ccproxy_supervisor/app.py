"""Builds the daemon: the only place that knows both the heart and the world."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import anyio
import psutil

from ccproxy_supervisor import __version__
from ccproxy_supervisor.adopting import Adopting
from ccproxy_supervisor.asking import REPORT, Asking
from ccproxy_supervisor.board import Board, Samples, Scene
from ccproxy_supervisor.caring import Caring, Part, Surroundings, flow
from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.incident import crashed, killed, stuck, undone
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import Child, Event, Status
from ccproxy_supervisor.core.notices import Trouble
from ccproxy_supervisor.core.ollama import wanted
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.printable import printable
from ccproxy_supervisor.core.troubles import standing
from ccproxy_supervisor.door import Door, each
from ccproxy_supervisor.edge import exits, last_words, process, usage, watchdog
from ccproxy_supervisor.edge.admin import admin_app, control_app
from ccproxy_supervisor.edge.births import Births
from ccproxy_supervisor.edge.embedded import serve_tcp, serve_unix
from ccproxy_supervisor.edge.fetch import fetch
from ccproxy_supervisor.edge.gauges import Gauges, ProcessGauges, Reading, Sources
from ccproxy_supervisor.edge.holding import Holding
from ccproxy_supervisor.edge.home import Home
from ccproxy_supervisor.edge.home.reading import read_plan
from ccproxy_supervisor.edge.incidents import Incidents
from ccproxy_supervisor.edge.journal import Writer
from ccproxy_supervisor.edge.keeper import Keeper, Restore, restore_folder
from ccproxy_supervisor.edge.launcher import Launcher
from ccproxy_supervisor.edge.listener import holder, knocked, queued
from ccproxy_supervisor.edge.logs import LogSink
from ccproxy_supervisor.edge.metrics import Metrics
from ccproxy_supervisor.edge.notify import Office
from ccproxy_supervisor.edge.ownership import HomeTaken, Ownership, owning
from ccproxy_supervisor.edge.page import page
from ccproxy_supervisor.edge.preload import Preloaders
from ccproxy_supervisor.edge.renewal import Stranded, proof
from ccproxy_supervisor.edge.room import Room
from ccproxy_supervisor.edge.state import Saved, StateFile
from ccproxy_supervisor.edge.terminal import Terminal
from ccproxy_supervisor.edge.traffic import Tallies, TrafficNumbers
from ccproxy_supervisor.edge.upgrades import Upgrades
from ccproxy_supervisor.edge.wake import Wake
from ccproxy_supervisor.handover import Handover
from ccproxy_supervisor.herald import Herald
from ccproxy_supervisor.lasting import lasting
from ccproxy_supervisor.orders import Orders
from ccproxy_supervisor.pool import Pool
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.renewing import Image, Renewing
from ccproxy_supervisor.seat import Slot
from ccproxy_supervisor.supervisor import Supervisor
from ccproxy_supervisor.takeover import Takeover
from ccproxy_supervisor.telling import Telling

STOPPED, STRANDED, TAKEN, UNUSABLE = 0, 71, 75, 78


def run(home: Home, *, verbose: bool = False) -> int:
    """Run the daemon until it is told to stop; return its exit code. *verbose* shows on standard error what happens."""
    last_words.bound()
    image = Image.this()
    try:
        with image.signals.hearing():
            plan = read_plan(home, os.environ)
            if faults := home.prepare(plan.settings):
                raise ConfigError(faults)
            with owning(home.run, plan.settings.admin.socket, image.arrival.handed.locks) as owned:
                os.chdir(home.folder)
                if begin := anyio.run(_run, home, plan, owned, verbose, image):
                    begin(owned)
    except ConfigError as error:
        print(printable(f"cannot run: the configuration is unusable\n{error}"), file=sys.stderr)
        return UNUSABLE
    except HomeTaken as error:
        print(printable(str(error)), file=sys.stderr)
        return TAKEN
    except Stranded as error:
        print(printable(str(error)), file=sys.stderr)
        return STRANDED
    return STOPPED


def prove(home: Home) -> int:
    """Say that this program can follow a supervisor of *home*, whose workers speak one of these protocols."""
    try:
        read_plan(home, os.environ)
    except ConfigError as error:
        print(printable(str(error)), file=sys.stderr)
        return UNUSABLE
    print(proof(__version__))
    return STOPPED


async def _run(
    home: Home, plan: Plan, owned: Ownership, verbose: bool, image: Image
) -> Callable[[Ownership], NoReturn] | None:
    daemon = Daemon(home, plan, owned, image, verbose=verbose)
    await daemon.run()
    return daemon.renewing.begin


class Daemon:
    """Every part, and who hears whom."""

    def __init__(self, home: Home, plan: Plan, owned: Ownership, image: Image, *, verbose: bool) -> None:
        settings = plan.settings
        self.home, self.plan, self.owned = home, plan, owned
        self.door = Door()
        self.tell = self.door.tell
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
        self.caring = Caring(
            Surroundings(
                lambda: self.plan, self.ask_serving, self.samples.busy, lambda: flow(self.pool, self.plan, self.tallies.wholes), self.wake.grace, time.time, fetch, self.tell
            ),
            self.wake.sparing(self.ask_serving),
        )  # fmt: skip
        read = lambda: read_plan(home, os.environ)  # noqa: E731
        self.renewing = Renewing(
            home.run,
            image,
            lambda: self.plan,
            read,
            lambda: self.takeover.activated,
            lambda: self.generation > 0,
            self.tell,
        )
        self.board = Board(
            str(home.folder), self.scene, self.samples, self.caring.views, self.caring.ollama,
            self.incidents.latest_line, self.upgrades.document, self.tallies.document, self.renewing.document, time.time,
        )  # fmt: skip
        self.launcher = Launcher(home.run)
        self.births = Births(home.run / "births", self.tell)
        self.adopting = Adopting(home.run, self.logs.adopt_capture, self.tell)
        self.takeover = Takeover(
            lambda: self.plan.settings, self.adopting, self.launcher.started, self.logs.collect,
            self.renewing.listener, self.tell,
        )  # fmt: skip
        self.takeover.activated = image.arrival.handed.activated
        self.state = StateFile(home.run / "state.json", self.tell_from_thread)
        self.handover = Handover(
            self.state,
            lambda: self.pool.slots if self.pool else (),
            lambda: self.takeover.remaining,
            self.board.day,
            lambda: (self.renewing.restarts, self.renewing.renewals),
        )
        self.holding = Holding()
        self.watchdog = watchdog.Watchdog(home.run / "stuck-stack.txt")
        self.asking = Asking(self.visit, lambda: self.plan, fetch)
        capture = lambda _: self.logs.capture()  # noqa: E731 - of no worker
        self.preloaders = Preloaders(plan, home.folder, self.launcher, capture, exits.ended, exits.start, self.tell)
        self.orders = Orders(self, self.asking, image.signals, self.logs.rotate, self.tell)
        self.gauges = Gauges(self._sources(), __version__)
        self.gauges.adopt(*_labels(plan))
        room = Room(lambda: home.path(self.plan.settings.logs.directory), lambda: self.plan.settings.proxy.max_memory)
        self.metrics = Metrics([self.gauges, ProcessGauges(), TrafficNumbers(self.tallies.totals), room, self.upgrades])
        self.office = Office(plan.contacts, socket.gethostname(), self._serves, self.tell)
        self.telling = Telling(self._troubles, self.office.tell, self.logs.mask)
        self.keeper = Keeper(self.tell, self._kept)
        self.door.listeners += [self.writer, self.metrics, self.incidents, self.board, self.handover, self.tallies]
        self.door.listeners += [Herald(self.board.health, self.children), self.telling]

    async def run(self) -> None:
        self.logs.start()
        saved = self.state.read()
        self.tallies.start()
        await self.takeover.find(saved.workers)
        stack, adopted = self.watchdog.start(), len(self.adopting.pids)
        self.renewing.begun(saved.restarts, saved.renewals, adopted, lost=bool(stack) or not saved.closed)
        self.metrics.resume(self.renewing.restarts, self.renewing.renewals)
        if self.renewing.undone:
            self._remember(undone(time.time(), self.renewing.undone))
        elif stack:
            self._remember(stuck(time.time(), stack.splitlines()))
        elif not saved.closed:
            self._remember(killed(time.time(), saved.day.seen, known(psutil.boot_time, 0.0), adopted))
        self.board.resume(saved.day)
        self.launcher.forget_others((*self.adopting.pids, *(worker.pid for worker in saved.workers)))
        to_the_end = False
        try:
            async with anyio.create_task_group() as tasks:
                for name, part in self._parts():
                    tasks.start_soon(lasting, name, part, self.tell)
                with self.waiting:
                    public = await self.takeover.public_socket()
                    await self._supervise(public, saved)
                tasks.cancel_scope.cancel()
            to_the_end = not self.renewing.begin
        except Exception as error:
            words = self.logs.mask("".join(traceback.format_exception(error)).encode(errors="replace"))
            self.incidents.record(crashed(time.time(), words.decode(errors="replace").splitlines()))
            raise
        finally:
            with ExitStack() as closing:  # each, whatever becomes of the others; the last one first
                if self.terminal:
                    closing.callback(self.terminal.close)
                closing.callback(self.logs.close if to_the_end else self.logs.leave)
                for each in (self.incidents, self.handover, self.watchdog, self.tallies):
                    closing.callback(each.close)

    def _parts(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
        """What runs beside the heart, by name."""
        settings, board = self.plan.settings.admin, self.board
        allowed = lambda: self.plan.settings.admin.allowed_hosts  # noqa: E731 - read anew after each reload
        pages = admin_app(board.health, board.document, self.metrics.render, allowed, page())
        control = control_app(board.health, board.document, self.orders.take)
        yield "pulse", partial(watchdog.pulse, watchdog.TICK, self._beat, self.metrics.observe_lag)
        yield "admin", partial(serve_tcp, pages, settings.host, settings.port, self.tell, holder)
        yield "control", partial(serve_unix, control, str(self.home.path(settings.socket)), self.tell)
        parts: tuple[Part, ...] = (
            self.office, self.telling, self.orders, self.keeper, self.handover, self.takeover, self.renewing, self.tallies,
        )  # fmt: skip
        for part in (*parts, self.preloaders, *self.caring.parts):
            yield type(part).__name__.lower(), part.run
        yield "preloading", self.preloaders.keep

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

    async def _supervise(self, public: socket.socket, saved: Saved) -> None:
        home, handover = self.home, self.handover
        spawn = process.Spawner(
            public, home.folder, self.launcher, self.births.keep, self.logs.capture, handover.enrol, handover.leave,
            exits.start, self.preloaders.fork, self.tell,
        )  # fmt: skip
        ports = Ports(
            spawn=spawn,
            liveness=self.asking.probe("/health/liveliness"),
            readiness=self.asking.probe("/health/readiness"),
            usage=lambda child: self.samples.take(child.number, child),
            journal=self.tell,
            wall=time.time,
            draw=random.random,
            grace=self.wake.grace,
            prepare=self.preloaders.prepare,
            queued=partial(queued, public),
            knocked=partial(knocked, public),
            questions=self.asking.questions(self.caring.harmless),
            ask=self.asking.short,
        )
        survivors = list(self.adopting.survivors(self.plan, public, self.launcher.path, spawn))
        slots = [Slot(number, old.record, old.restarts, old.last_ending) for number, old in saved.slots.items()]
        answer = partial(self._answer, public)
        with public:
            if not survivors and not self.takeover.remaining:
                self.births.forget_counters()
            if all(survivor.plan == self.plan for survivor in survivors):
                self._forget_births()
            self.supervisor = Supervisor(
                self.plan, self.read, self.adopt, ports, answer, slots, survivors, self.adopting.newest
            )
            await self.supervisor.run()
            if self.supervisor.leaving:
                self.renewing.leave(public.dup(), stopping=self.supervisor.stopping)

    @asynccontextmanager
    async def _answer(self, public: socket.socket) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lasting, "holding", partial(self.holding.run, public), self.tell)
            yield
            tasks.cancel_scope.cancel()

    def tell_from_thread(self, event: Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: the last log lines have nowhere to go
            self.loop.call_soon_threadsafe(self.tell, event, context=self.context)

    def show(self, line: bytes) -> None:
        if self.terminal:
            self.terminal.show(self.logs.mask(line))

    # What the parts ask of each other.

    @property
    def pool(self) -> Pool | None:
        return self.supervisor.pool if self.supervisor else None

    def children(self) -> list[Child]:
        return [worker.child for worker in self.pool.workers if worker.child] if self.pool else []

    @property
    def why(self) -> str:
        return "" if self.supervisor else self.takeover.why

    @property
    def generation(self) -> int:
        return self.pool.generation if self.pool else 0

    async def prove_successor(self) -> str:
        return await self.renewing.prove()

    def renew(self, by: str, follower: str) -> None:
        self.renewing.order(by, follower)
        if self.supervisor:
            self.supervisor.leave()

    def give_up(self) -> None:
        self.adopting.let_go()
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
                partial(self.office.adopt, plan.contacts),
                partial(self.caring.adopt, plan),
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
        if not self.takeover.remaining:
            self.births.forget([self.plan.birth, *(worker.plan.birth for worker in workers)])

    async def ask_serving(self, path: str, timeout: float, body: bytes = b"") -> Answer | Failure | None:
        """Ask a serving worker for *path*; None while there is none. An upstream's error may repeat a key."""
        workers = self.pool.workers if self.pool else []
        serving = next((worker.number for worker in workers if worker.serving), None)
        if serving is None:
            return None
        method = "POST" if body else "GET"
        answer = await self.asking.ask(serving, path, timeout, limit=REPORT, method=method, body=body)
        return replace(answer, body=self.logs.mask(answer.body)) if isinstance(answer, Answer) else answer

    def scene(self) -> Scene:
        if self.supervisor is None or self.pool is None:
            return Scene(self.plan, [], ever_served=bool(self.why), why=self.why)
        supervisor = self.supervisor
        return Scene(self.plan, self.pool.views(), self.generation, supervisor.ever_served, supervisor.stopping)

    def _remember(self, record: dict[str, Any]) -> None:
        """An earlier supervisor did not end as it should."""
        self.incidents.record(record)
        self.telling.remember(record["told"])

    def _troubles(self) -> list[Trouble]:
        if self.pool is None:
            return []
        needs = bool(wanted(self.plan.litellm.models, self.plan.settings.ollama.url))
        return standing(self.pool.views(), self.caring.ollama(), self.caring.views(), needs_ollama=needs)

    def _serves(self) -> bool:
        return self.board.status() in (Status.HEALTHY, Status.DEGRADED)

    def _sources(self) -> Sources:
        return Sources(
            status=self.board.status,
            generation=lambda: self.generation,
            workers=self._readings,
            logs=self.logs.counters,
            held=lambda: self.holding.answered,
            models=self.caring.views,
            ollama=self.caring.ollama,
        )

    def _readings(self) -> list[Reading]:
        children = {worker.number: worker.child for worker in self.pool.workers} if self.pool else {}
        used = {number: self.samples.take(number, child) for number, child in children.items() if child}
        views = self.pool.views() if self.pool else []
        return [Reading(v.number, v.slot, v.state, v.uptime, used.get(v.number), v.backoff or 0.0) for v in views]

    def _beat(self) -> None:
        self.watchdog.beat()
        self.wake.observe()


def _labels(plan: Plan) -> tuple[int, tuple[str, ...], str | None]:
    """What the metrics' labels are made of: slots, what is wanted of Ollama, LiteLLM's version."""
    tags = wanted(plan.litellm.models, plan.settings.ollama.url) if plan.settings.ollama.enabled else ()
    return plan.settings.proxy.workers, tags, plan.birth.litellm_version
