"""Runs the daemon: from the first word to the last, whatever becomes of it."""

from __future__ import annotations

import os
import random
import socket
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, NoReturn

import anyio
import psutil

from ccproxy_supervisor import __version__
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.incident import crashed, killed, stuck, undone
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.printable import printable
from ccproxy_supervisor.edge import exits, last_words, process, watchdog
from ccproxy_supervisor.edge.admin import admin_app, control_app
from ccproxy_supervisor.edge.embedded import serve_tcp, serve_unix
from ccproxy_supervisor.edge.home import Home
from ccproxy_supervisor.edge.home.reading import read_plan
from ccproxy_supervisor.edge.listener import holder, knocked, queued
from ccproxy_supervisor.edge.ownership import HomeTaken, Ownership, owning
from ccproxy_supervisor.edge.page import page
from ccproxy_supervisor.edge.renewal import Stranded, proof
from ccproxy_supervisor.edge.state import Saved
from ccproxy_supervisor.lasting import lasting
from ccproxy_supervisor.parts import Parts
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.renewer import Image
from ccproxy_supervisor.seat import Slot
from ccproxy_supervisor.supervisor import Supervisor
from ccproxy_supervisor.upstreams import Part

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
    return daemon.renewer.begin


class Daemon(Parts):
    """Its parts, and how they live."""

    async def run(self) -> None:
        self.logs.start()
        saved = self.state.read()
        self.tallies.start()
        await self.recovery.find(saved.workers)
        stack, adopted = self.watchdog.start(), len(self.adopter.pids)
        self.renewer.begun(saved.restarts, saved.renewals, adopted, lost=bool(stack) or not saved.closed)
        self.metrics.resume(self.renewer.restarts, self.renewer.renewals)
        if self.renewer.undone:
            self._remember(undone(time.time(), self.renewer.undone))
        elif stack:
            self._remember(stuck(time.time(), stack.splitlines()))
        elif not saved.closed:
            self._remember(killed(time.time(), saved.day.seen, known(psutil.boot_time, 0.0), adopted))
        self.overview.resume(saved.day)
        self.launcher.forget_others((*self.adopter.pids, *(worker.pid for worker in saved.workers)))
        to_the_end = False
        try:
            async with anyio.create_task_group() as tasks:
                for name, part in self._parts():
                    tasks.start_soon(lasting, name, part, self.tell)
                with self.waiting:
                    public = await self.recovery.public_socket()
                    await self._supervise(public, saved)
                tasks.cancel_scope.cancel()
            to_the_end = not self.renewer.begin
        except Exception as error:
            words = self.logs.mask("".join(traceback.format_exception(error)).encode(errors="replace"))
            self.incidents.record(crashed(time.time(), words.decode(errors="replace").splitlines()))
            raise
        finally:
            with ExitStack() as closing:  # each, whatever becomes of the others; the last one first
                if self.terminal:
                    closing.callback(self.terminal.close)
                closing.callback(self.logs.close if to_the_end else self.logs.leave)
                for each in (self.incidents, self.persistence, self.watchdog, self.tallies):
                    closing.callback(each.close)

    def _parts(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
        """What runs beside the heart, by name."""
        settings, overview = self.plan.settings.admin, self.overview
        allowed = lambda: self.plan.settings.admin.allowed_hosts  # noqa: E731 - read anew after each reload
        pages = admin_app(overview.health, overview.document, self.metrics.render, allowed, page())
        control = control_app(overview.health, overview.document, self.orders.take)
        yield "pulse", partial(watchdog.pulse, watchdog.TICK, self._beat, self.metrics.observe_lag)
        yield "admin", partial(serve_tcp, pages, settings.host, settings.port, self.tell, holder)
        yield "control", partial(serve_unix, control, str(self.home.path(settings.socket)), self.tell)
        parts: tuple[Part, ...] = (
            self.notifier, self.alerting, self.orders, self.restorer, self.persistence, self.recovery, self.renewer, self.tallies,
        )  # fmt: skip
        for part in (*parts, self.preloaders, *self.upstreams.parts):
            yield type(part).__name__.lower(), part.run
        yield "preloading", self.preloaders.keep

    async def _supervise(self, public: socket.socket, saved: Saved) -> None:
        home, persistence = self.home, self.persistence
        spawn = process.Spawner(
            public, home.folder, self.launcher, self.births.keep, self.logs.capture, persistence.enrol, persistence.leave,
            exits.start, self.preloaders.fork, self.tell,
        )  # fmt: skip
        ports = Ports(
            spawn=spawn,
            liveness=self.prober.probe("/health/liveliness"),
            readiness=self.prober.probe("/health/readiness"),
            usage=lambda child: self.samples.take(child.number, child),
            journal=self.tell,
            wall=time.time,
            draw=random.random,
            grace=self.wake.grace,
            prepare=self.preloaders.prepare,
            queued=partial(queued, public),
            knocked=partial(knocked, public),
            questions=self.prober.questions(self.upstreams.harmless),
            ask=self.prober.short,
        )
        survivors = list(self.adopter.survivors(self.plan, public, self.launcher.path, spawn))
        slots = [Slot(number, old.record, old.restarts, old.last_ending) for number, old in saved.slots.items()]
        answer = partial(self._answer, public)
        with public:
            if not survivors and not self.recovery.remaining:
                self.births.forget_counters()
            if all(survivor.plan == self.plan for survivor in survivors):
                self._forget_births()
            self.supervisor = Supervisor(
                self.plan, self.read, self.adopt, ports, answer, slots, survivors, self.adopter.newest
            )
            await self.supervisor.run()
            if self.supervisor.leaving:
                self.renewer.leave(public.dup(), stopping=self.supervisor.stopping)

    @asynccontextmanager
    async def _answer(self, public: socket.socket) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lasting, "holding", partial(self.holding.run, public), self.tell)
            yield
            tasks.cancel_scope.cancel()

    def _remember(self, record: dict[str, Any]) -> None:
        """An earlier supervisor did not end as it should."""
        self.incidents.record(record)
        self.alerting.remember(record["told"])

    def _beat(self) -> None:
        self.watchdog.beat()
        self.wake.observe()
