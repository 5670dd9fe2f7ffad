"""Builds the daemon: the only place that knows both the heart and the world."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import psutil
from anyio.abc import TaskGroup

from ccproxy_supervisor import __version__
from ccproxy_supervisor.board import Board, Samples
from ccproxy_supervisor.core.answer import Answer, Failure, verdict
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.incident import stuck
from ccproxy_supervisor.core.model import Cause, Event, Probed, Reloaded, Verdict
from ccproxy_supervisor.core.ollama import wanted
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.status import WorkerView, summary
from ccproxy_supervisor.edge import last_words, process, watchdog
from ccproxy_supervisor.edge.admin import admin_app, control_app
from ccproxy_supervisor.edge.embedded import serve_tcp, serve_unix
from ccproxy_supervisor.edge.fetch import fetch
from ccproxy_supervisor.edge.gauges import Gauges, ProcessGauges, Reading, Sources
from ccproxy_supervisor.edge.holding import Holding
from ccproxy_supervisor.edge.home import Home, HomeTaken
from ccproxy_supervisor.edge.incidents import Incidents
from ccproxy_supervisor.edge.journal import Writer
from ccproxy_supervisor.edge.listener import holder
from ccproxy_supervisor.edge.logs import LogSink
from ccproxy_supervisor.edge.metrics import Metrics
from ccproxy_supervisor.edge.models import ModelWatch
from ccproxy_supervisor.edge.ollama import OllamaWatch
from ccproxy_supervisor.edge.page import page
from ccproxy_supervisor.edge.room import Room
from ccproxy_supervisor.edge.state import Recorded, Saved, StateFile
from ccproxy_supervisor.edge.state import Slot as SavedSlot
from ccproxy_supervisor.edge.wake import Wake
from ccproxy_supervisor.seat import Slot
from ccproxy_supervisor.supervisor import Supervisor
from ccproxy_supervisor.takeover import Takeover
from ccproxy_supervisor.worker import Ports, Worker

STOPPED, TAKEN, UNUSABLE = 0, 75, 78
PROBE_LIMIT = 1 << 16  # bytes of a probe's answer


def run(home: Home, *, show: Callable[[str], object] | None = None) -> int:
    """Run the daemon until it is told to stop; return its exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody to hear it
    last_words.bound()
    try:
        plan = home.read_plan(os.environ)
        if faults := home.prepare(plan.settings):
            raise ConfigError(faults)
        with home.lock():
            os.chdir(home.folder)
            anyio.run(_run, home, plan, show)
    except ConfigError as error:
        print(f"cannot run: the configuration is unusable\n{error}", file=sys.stderr)
        return UNUSABLE
    except HomeTaken as error:
        print(error, file=sys.stderr)
        return TAKEN
    return STOPPED


async def _run(home: Home, plan: Plan, show: Callable[[str], object] | None) -> None:
    await Daemon(home, plan, show).run()


class Daemon:
    """Every part, and who hears whom."""

    def __init__(self, home: Home, plan: Plan, show: Callable[[str], object] | None) -> None:
        settings, models = plan.settings, plan.litellm.models
        self.home, self.plan = home, plan
        self.supervisor: Supervisor | None = None
        self.changed = anyio.Event()
        self.loop = asyncio.get_running_loop()
        self.samples = Samples(process.usage, time.time)
        self.logs = LogSink(home.path(settings.logs.directory), settings.logs, self.tell_from_thread)
        self.logs.hide(plan.secrets)
        self.writer = Writer(partial(self.logs.write, "supervisor"), settings.logs.level, show)
        self.incidents = Incidents(home.run / "incidents", self.tell, self.samples.memory)
        self.board = Board(str(home.folder), self.samples, time.time)
        self.state = StateFile(home.run / "state.json", self.tell_from_thread)
        self.holding = Holding()
        self.enrolled: dict[int, Recorded] = {}
        self.wake = Wake(self.tell, every=watchdog.TICK)
        self.watchdog = watchdog.Watchdog(home.run / "stuck-stack.txt")
        self.ollama = OllamaWatch(fetch, self.tell, settings.ollama, models)
        self.models = ModelWatch(self.ask, self.ollama.loads, self.samples.busy, self.tell, settings.models, models)
        self.takeover = Takeover(lambda: self.plan.settings, self.tell)
        self.gauges = Gauges(self._sources(), __version__)
        self.room = Room(
            lambda: home.path(self.plan.settings.logs.directory), lambda: self.plan.settings.proxy.max_memory
        )
        self.gauges.adopt(*_labels(plan))
        self.metrics = Metrics([self.gauges, ProcessGauges(), self.room])
        self.listeners: tuple[Callable[[Event], None], ...] = (
            *(self.writer, self.metrics, self.gauges, self.incidents, self.board, self._remember),
        )

    async def run(self) -> None:
        self.logs.start()
        if stack := self.watchdog.start():
            self.incidents.record(stuck(time.time(), stack.splitlines()))
        saved = self.state.read()
        self.takeover.find(saved.workers)
        try:
            async with anyio.create_task_group() as tasks:
                for part in (self.ollama.run, self.models.run, self.takeover.clear, self._save):
                    tasks.start_soon(part)
                tasks.start_soon(watchdog.pulse, watchdog.TICK, self._beat, self.metrics.observe_lag)
                self._open_admin(tasks)
                tasks.start_soon(self._hear_signals, tasks)
                with anyio.CancelScope() as self.waiting:
                    await self._supervise(await self.takeover.public_socket(), saved)
                tasks.cancel_scope.cancel()
        finally:
            self.watchdog.close()
            self.state.write(Saved(self._history(), self.takeover.remaining))
            self.incidents.close()
            self.logs.close()

    def _open_admin(self, tasks: TaskGroup) -> None:
        settings = self.plan.settings.admin
        allowed = lambda: self.plan.settings.admin.allowed_hosts  # noqa: E731 - read anew after each reload
        pages = admin_app(self.health, self.document, self.metrics.render, allowed, page())
        tasks.start_soon(serve_tcp, pages, settings.host, settings.port, self.tell, holder)
        orders = control_app(self.health, self.document, self.order)
        tasks.start_soon(serve_unix, orders, str(self.home.path(settings.socket)), self.tell)

    async def _supervise(self, public: socket.socket, saved: Saved) -> None:
        spawn = process.Spawner(
            public, self.home.folder, self.home.keep_config, self.logs.capture, self._enrol, self._leave
        )
        ports = Ports(
            spawn=spawn, liveness=self._probe("/health/liveliness"), readiness=self._probe("/health/readiness"),
            usage=lambda child: self.samples.take(child.number, child), journal=self.tell,
            wall=time.time, draw=random.random, grace=self.wake.grace,
        )  # fmt: skip
        slots = [Slot(number, old.record, old.restarts, old.last_ending) for number, old in saved.slots.items()]
        self.supervisor = Supervisor(self.plan, self.read, self._adopt, ports, partial(self._answer, public), slots)
        with public:
            await self.supervisor.run()

    @asynccontextmanager
    async def _answer(self, public: socket.socket) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.holding.run, public)
            yield
            tasks.cancel_scope.cancel()

    # The journal: one door, every listener.

    def tell(self, event: Event) -> None:
        for listen in self.listeners:
            listen(event)

    def _remember(self, event: Event) -> None:
        if not isinstance(event, Probed):  # what a probe changes comes as another event
            views = self.views()
            self.board.remember(self.board.status(self.plan, views, **self._phase()), views)

    def tell_from_thread(self, event: Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: the last log lines have nowhere to go
            self.loop.call_soon_threadsafe(self.tell, event)

    # Asking workers.

    def _probe(self, path: str) -> Callable[[int, float], Awaitable[Verdict]]:
        async def ask(number: int, timeout: float) -> Verdict:
            return verdict(await self._fetch(number, path, timeout))

        return ask

    async def ask(self, path: str, timeout: float) -> Answer | Failure | None:
        """Ask a serving worker for *path*; None while there is none."""
        workers = self.supervisor.pool.workers if self.supervisor else []
        serving = next((worker.number for worker in workers if worker.serving), None)
        return None if serving is None else await self._fetch(serving, path, timeout, limit=1 << 20)

    async def _fetch(
        self, number: int, path: str, timeout: float, *, limit: int = PROBE_LIMIT, **more: Any
    ) -> Answer | Failure:
        key = self.plan.birth.key
        headers = (("Authorization", f"Bearer {key}"),) if key else ()
        unix = str(self.home.socket(number))
        return await fetch(f"http://localhost{path}", unix=unix, timeout=timeout, limit=limit, headers=headers, **more)

    async def _complete(self, model: str, worker: Worker) -> str | None:
        """Ask *worker* for one short completion of *model*; return what is wrong with the answer."""
        body = json.dumps({"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}).encode()
        seconds = self.plan.settings.models.timeout
        outcome = await self._fetch(worker.number, "/v1/chat/completions", seconds, method="POST", body=body)
        judged = verdict(outcome)
        return None if judged.ok else f"model {model}: {judged.detail}"

    # Orders, from signals and the control socket.

    async def order(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out *name*; raises `ValueError` for one that cannot be understood."""
        match name:
            case "reload":
                return self._told(await self.reload("control socket"))
            case "restart":
                cause = body.get("cause", Cause.RESTART)
                if cause not in (Cause.RESTART, Cause.UPGRADE):
                    raise ValueError("cause is restart or upgrade")
                return self._told(await self.reload("control socket", Cause(cause)))
            case "stop":
                self.stop("control socket")
                return {"result": "stopping"}
            case "rotate":
                self.logs.rotate()
                return {"result": "rotated"}
            case "canary":
                python, model = body.get("python"), body.get("model")
                if not isinstance(python, str) or not isinstance(model, str) or not os.path.isabs(python):
                    raise ValueError("python, an absolute path, and model are needed")
                return await self.canary(python, model)
        raise ValueError("no such order")

    async def reload(self, by: str, cause: Cause = Cause.RELOAD) -> Reloaded:
        if self.supervisor:
            return await self.supervisor.reload(by, cause)
        report = Reloaded("refused", f"waiting for the public socket: {self.takeover.why}", by)
        with suppress(ConfigError):
            self.plan = self.read()  # perhaps it names another port now
        self.tell(report)
        return report

    async def canary(self, python: str, model: str) -> dict[str, Any]:
        """Prove LiteLLM under another interpreter, with the configuration in force, without letting it serve."""
        if self.supervisor is None:
            return {"ok": False, "detail": f"waiting for the public socket: {self.takeover.why}", "seconds": 0.0}
        begun = anyio.current_time()
        birth = replace(self.plan.birth, python=python, digest=f"canary {python}")
        wrong = await self.supervisor.canary(replace(self.plan, birth=birth), partial(self._complete, model))
        seconds = round(anyio.current_time() - begun, 3)
        return {"ok": wrong is None, "detail": wrong or "ready, and answered a completion", "seconds": seconds}

    def stop(self, by: str) -> None:
        if self.supervisor:
            self.supervisor.stop(by)
        else:
            self.waiting.cancel()

    def _told(self, report: Reloaded) -> dict[str, Any]:
        told = {"result": report.result, "detail": report.detail, "changes": list(report.changes)}
        return told | {"generation": self._generation()}

    async def _hear_signals(self, tasks: TaskGroup) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1) as heard:
            async for number in heard:
                match number:
                    case signal.SIGHUP:
                        tasks.start_soon(self.reload, "SIGHUP")
                    case signal.SIGUSR1:
                        self.logs.rotate()
                    case _:
                        self.stop(signal.Signals(number).name)

    # The plan.

    def read(self) -> Plan:
        plan = self.home.read_plan(os.environ)
        self.logs.hide({*self.plan.secrets, *plan.secrets})
        return plan

    def _adopt(self, plan: Plan) -> None:
        settings, models = plan.settings, plan.litellm.models
        self.plan = plan
        self.home.forget_configs(plan.birth)
        self.logs.adopt(settings.logs)
        self.writer.adopt(settings.logs.level)
        self.ollama.adopt(settings.ollama, models)
        self.models.adopt(settings.models, models)
        self.gauges.adopt(*_labels(plan))

    # What status and metrics show.

    def views(self) -> list[WorkerView]:
        return self.supervisor.pool.views() if self.supervisor else []

    def document(self) -> dict[str, Any]:
        supervisor = self.supervisor
        extra = {"detail": "" if supervisor else self.takeover.why, "last_incident": self.incidents.latest_line()}
        return self.board.document(self.plan, self.views(), self._generation(), extra, **self._phase())

    def health(self) -> dict[str, Any]:
        return summary(self.document())

    def _phase(self) -> dict[str, bool]:
        supervisor = self.supervisor
        if supervisor is None:
            return {"ever_served": bool(self.takeover.why), "stopping": False}
        return {"ever_served": supervisor.ever_served, "stopping": supervisor.stopping}

    def _generation(self) -> int:
        return self.supervisor.pool.generation if self.supervisor else 0

    def _sources(self) -> Sources:
        return Sources(
            status=lambda: self.board.status(self.plan, self.views(), **self._phase()),
            generation=self._generation,
            workers=self._readings,
            logs=self.logs.counters,
            held=lambda: self.holding.answered,
        )

    def _readings(self) -> list[Reading]:
        children = {w.number: w.child for w in self.supervisor.pool.workers} if self.supervisor else {}
        usages = {number: self.samples.take(number, child) for number, child in children.items() if child}
        return [
            Reading(v.number, v.slot, v.state, v.uptime, usages.get(v.number), v.backoff or 0.0) for v in self.views()
        ]

    # What the next supervisor needs to know.

    def _enrol(self, number: int, stats: psutil.Process | None, socket_path: str) -> None:
        if stats is not None:
            with suppress(psutil.Error):
                self.enrolled[number] = Recorded(stats.pid, stats.create_time(), socket_path)
        self.changed.set()

    def _leave(self, number: int) -> None:
        self.enrolled.pop(number, None)
        self.changed.set()

    def _history(self) -> dict[int, SavedSlot]:
        slots = self.supervisor.pool.slots if self.supervisor else ()
        return {slot.number: SavedSlot(slot.record, slot.restarts, slot.last_ending) for slot in slots}

    async def _save(self) -> None:
        while True:
            await self.changed.wait()
            self.changed = anyio.Event()
            saved = Saved(self._history(), (*self.enrolled.values(), *self.takeover.remaining))
            await anyio.to_thread.run_sync(self.state.write, saved)

    def _beat(self) -> None:
        self.watchdog.beat()
        self.wake.observe()


def _labels(plan: Plan) -> tuple[int, list[str], list[str] | None, str | None]:
    """What the metrics' labels are made of: slots, models, what is wanted of Ollama, LiteLLM's version."""
    names = [model.name for model in plan.litellm.models]
    tags = wanted(plan.litellm.models, plan.settings.ollama.url) if plan.settings.ollama.enabled else None
    return plan.settings.proxy.workers, names, None if tags is None else list(tags), plan.birth.litellm_version
