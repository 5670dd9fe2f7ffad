"""A stage for the heart: virtual time, fake ports, and a diary of all it said."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio

from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.core.litellm import LiteLLMConfig
from ccproxy_supervisor.core.model import (
    Failover,
    Note,
    Reloaded,
    SpawnError,
    State,
    Survivor,
    Traffic,
    Transition,
    Usage,
    Verdict,
)
from ccproxy_supervisor.core.plan import Birth, Plan
from ccproxy_supervisor.core.settings import parse
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.seat import Slot
from ccproxy_supervisor.supervisor import Supervisor

SETTINGS = """
proxy: {workers: WORKERS, standby: STANDBY, start_timeout: 60s, drain_timeout: 30s, kill_timeout: 5s, hold: 15s}
restart: {first_delay: 1s, factor: 2, longest_delay: 8s, jitter: 0, stable_after: 60s}
health: {interval: 5s, timeout: 3s, failures: 3, successes: 2}
"""


def plan_of(workers: int = 1, standby: int = 0, digest: str = "a", extra: str = "") -> Plan:
    text = SETTINGS.replace("WORKERS", str(workers)).replace("STANDBY", str(standby))
    birth = Birth(python="python", config="config.yaml", env=(), digest=digest)
    return Plan(parse(text + extra), LiteLLMConfig(()), birth)


def patched(plan: Plan, section: str, **values: Any) -> Plan:
    part = getattr(plan.settings, section).model_copy(update=values)
    return replace(plan, settings=plan.settings.model_copy(update={section: part}))


def patched_birth(plan: Plan, digest: str) -> Plan:
    return replace(plan, birth=replace(plan.birth, digest=digest))


@asynccontextmanager
async def curtain() -> AsyncIterator[anyio.abc.TaskGroup]:
    """A task group with a virtual day to finish: a deadlock becomes a jump to the deadline, not a hang."""
    with anyio.fail_after(86_400):
        async with anyio.create_task_group() as tasks:
            yield tasks


class FakeChild:
    """One life by its script: ready_at, lives, status, sick_at, sick_until, deaf (to SIGTERM), mute (never accepts), slow (to
    accept), stream (seconds a drain takes), leaves_at (drains unasked), orphan (nobody can tell its status), memory, stalls_at (completions wait from then on),
    stalls_until, hung (models that it does not answer while it stalls; all of them), shut_at (takes no connection)."""

    def __init__(self, number: int, script: dict[str, Any]) -> None:
        self.number, self.pid, self.script, self.born = number, 1000 + number, script, anyio.current_time()
        self.signals: list[tuple[float, int]] = []
        self.drained_for: float | None = None
        self.active, self.leaving = script.get("serves", False), False
        self.status: int | None = None
        self._exit = anyio.Event()

    @property
    def age(self) -> float:
        return anyio.current_time() - self.born

    @property
    def stalled(self) -> float:
        """For how long its completions have waited."""
        begun = self.script.get("stalls_at", math.inf)
        return self.age - begun if begun <= self.age < self.script.get("stalls_until", math.inf) else 0.0

    @property
    def taking(self) -> bool:
        return self.active and self.status is None and self.age < self.script.get("shut_at", math.inf)

    def traffic(self, users: bool) -> Traffic:
        took = min(self.age, self.script.get("shut_at", math.inf)) if users and self.active else 0
        return Traffic(int(10 * took), int(self.stalled > 0), self.stalled)

    def die(self, status: int) -> None:
        if self.status is None:
            self.status = status
            self._exit.set()

    def signal(self, number: int) -> None:
        self.signals.append((round(self.age, 3), int(number)))
        if number == 9 or (number == 15 and not self.script.get("deaf")):
            self.die(-int(number))

    async def ready(self):
        await anyio.sleep(self.script.get("ready_at", 0))
        return self.script.get("dropped", {})

    async def activate(self, slot: int | None) -> None:
        if self.script.get("mute"):
            await anyio.sleep_forever()
        await anyio.sleep(self.script.get("slow", 0))
        self.active = True

    async def draining(self) -> None:
        await anyio.sleep(self.script.get("leaves_at", math.inf))
        self._leave()

    def provide(self, plan: Plan, generation: int) -> None:
        self.provided = (plan.birth.digest, generation)

    def drain(self, seconds: float) -> None:
        self.drained_for = seconds
        if not self.leaving:
            self._leave()

    def _leave(self) -> None:
        self.leaving, self.active = True, False
        self.script = {**self.script, "lives": self.age + self.script.get("stream", 0)}
        self._redrawn.set()

    async def wait(self) -> int | None:
        while self.status is None:
            self._redrawn = anyio.Event()
            with anyio.move_on_after(self.script.get("lives", math.inf) - self.age) as over:
                async with anyio.create_task_group() as race:
                    race.start_soon(self._first, self._exit, race.cancel_scope)
                    race.start_soon(self._first, self._redrawn, race.cancel_scope)
            if over.cancelled_caught:
                self.die(self.script.get("status", 0))
        return None if self.script.get("orphan") else self.status

    @staticmethod
    async def _first(event: anyio.Event, scope: anyio.CancelScope) -> None:
        await event.wait()
        scope.cancel()

    async def output(self) -> tuple[str, ...]:
        await anyio.sleep(self.script.get("last_words", 0))
        return ("last line",)


class Stage:
    """*lives* are the scripts of workers by number, from 1; whoever has none lives for ever."""

    def __init__(self) -> None:
        self.lives: dict[int, dict[str, Any]] = {}
        self.children: list[FakeChild] = []
        self.diary: list[tuple[float, str]] = []
        self.events: list[Any] = []
        self.file: Plan | Exception = plan_of()
        self.unfit: set[str] = set()  # births whose workers die before they are ready
        self.adopted: list[Plan] = []
        self.answering: list[tuple[float, str]] = []
        self.awake = True
        self.probed: list[int] = []
        self.preparing = 0.0  # seconds until a worker can be spawned
        self.users = True  # somebody connects all the time
        self.comes_at = math.inf  # somebody does then
        self.blocked = False  # but nobody comes through, whoever serves
        self.questions: list[str] = []  # models that cost nothing
        self.slow: set[str] = set()  # and those that answer nobody in time
        self.asked: list[tuple[float, int, str]] = []
        self.start = anyio.current_time()

    @property
    def now(self) -> float:
        return round(anyio.current_time() - self.start, 3)

    @asynccontextmanager
    async def spawn(self, number: int, plan: Plan) -> AsyncIterator[FakeChild]:
        script = self.lives.get(number, {})
        if error := script.get("spawn_error"):
            raise SpawnError(error)
        if plan.birth.digest in self.unfit:
            script = {"ready_at": 9, "lives": 0.5, "status": 3}
        child = FakeChild(number, script)
        self.children.append(child)
        try:
            yield child
        except anyio.get_cancelled_exc_class():
            raise  # the child is left to the next supervisor
        except BaseException:
            child.die(-9)
            raise
        child.die(-9)

    def survivor(self, number: int, slot: int | None = None, generation: int = 1, digest: str = "a", age: float = 100,
                 **script: Any) -> Survivor:  # fmt: skip
        """One that serves if it has a *slot*."""
        state = State.STARTING if slot is None else State.SERVING
        self.lives[number] = {"serves": slot is not None, **script}
        plan = patched_birth(self.read(), digest)
        take = lambda: self.spawn(number, plan)  # noqa: E731
        return Survivor(number, 1000 + number, generation, slot, state, age, plan, take)

    async def prepare(self, plan: Plan) -> None:
        await anyio.sleep(self.preparing)

    async def probe(self, number: int, timeout: float) -> Verdict:
        self.probed.append(number)
        child = next(c for c in self.children if c.number == number)
        healed = child.script.get("sick_until", math.inf) - child.age
        well = not (child.script.get("sick_at", math.inf) <= child.age and healed > 0)
        silent = 0 if well or not child.script.get("hangs") else min(timeout, healed)
        await anyio.sleep(silent)
        well = well or 0 < silent < timeout
        return Verdict(well, 0.0, "" if well else "timeout", traffic=child.traffic(self.users))

    def queued(self) -> bool:
        return self.blocked or (self.users and not any(child.taking for child in self.children))

    async def knocked(self) -> None:
        if not self.queued():
            await anyio.sleep(max(0.0, min(self.comes_at - self.now, 1e6)))

    async def free(self) -> list[str]:
        return self.questions

    async def ask(self, number: int, model: str, timeout: float) -> Verdict:
        self.asked.append((self.now, number, model))
        child = next(c for c in self.children if c.number == number)
        if model in self.slow or (child.stalled and model in child.script.get("hung", self.questions)):
            await anyio.sleep(timeout)
            return Verdict(False, timeout, "timeout")
        await anyio.sleep(0.1)
        return Verdict(True, 0.1)

    def journal(self, event: Any) -> None:
        self.events.append(event)
        match event:
            case Transition(number=number, new=new, ending=ending):
                self.diary.append((self.now, f"{number} {new}" + (f" {ending.cause}" if ending else "")))
            case Failover(slot=slot, seconds=seconds):
                self.diary.append((self.now, f"failover {slot} {round(seconds, 3)}"))
            case Reloaded(result=result):
                self.diary.append((self.now, f"reload {result}"))
            case Note(event=word):
                self.diary.append((self.now, word))

    def read(self) -> Plan:
        if isinstance(self.file, Exception):
            raise self.file
        return self.file

    @asynccontextmanager
    async def answer(self) -> AsyncIterator[None]:
        self.answering.append((self.now, "on"))
        try:
            yield
        finally:
            self.answering.append((self.now, "off"))

    def supervisor(
        self, plan: Plan | None = None, slots: Iterable[Slot] = (), survivors: Sequence[Survivor] = (), newest: int = 0
    ) -> Supervisor:
        if plan is not None:
            self.file = plan
        ports = Ports(
            spawn=self.spawn, liveness=self.probe, readiness=self.probe, journal=self.journal,
            usage=lambda child: Usage(child.script.get("memory", 0), 0.0, 1, 1),
            wall=lambda: 0.0, draw=lambda: 0.0, grace=lambda: not self.awake, prepare=self.prepare,
            queued=self.queued, knocked=self.knocked, questions=self.free, ask=self.ask,
        )  # fmt: skip
        return Supervisor(self.read(), self.read, self.adopted.append, ports, self.answer, slots, survivors, newest)

    def after(self, when: float) -> list[str]:
        return [what for at, what in self.diary if at >= when]


def refusal(message: str = "no") -> ConfigError:
    return ConfigError([Fault("supervisor.yaml", message, "proxy.port", 3)])
