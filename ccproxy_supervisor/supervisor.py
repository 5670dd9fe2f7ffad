"""Takes orders: reload, restart, canary, stop. A newer order outranks an unfinished roll."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

from anyio import CancelScope, Event, create_task_group, current_time, move_on_after

from ccproxy_supervisor.core.changes import changes
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.model import SUPERSEDED, Cause, Note, Reloaded
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.pool import Pool
from ccproxy_supervisor.seat import Slot
from ccproxy_supervisor.worker import Ports, Worker


@dataclass
class Roll:
    """A change of the pool under way, and what came of it."""

    plan: Plan
    report: Reloaded
    scope: CancelScope = field(default_factory=CancelScope)
    done: Event = field(default_factory=Event)


class Supervisor:
    """*read* gives the plan on disk or raises `ConfigError`; *adopt* tells the edges of a new one;
    *answer* holds the public socket while nobody serves."""

    def __init__(
        self, plan: Plan, read: Callable[[], Plan], adopt: Callable[[Plan], None], ports: Ports,
        answer: Callable[[], AbstractAsyncContextManager[None]], slots: Iterable[Slot] = (),
    ) -> None:  # fmt: skip
        self.plan, self.started = plan, current_time()
        self.stopping = False
        self.ever_served = False
        self.last_reload: Reloaded | None = None
        self._read, self._adopt, self._answer = read, adopt, answer
        self._ports, self._slots = ports, slots
        self._stop = Event()
        self._roll: Roll | None = None

    async def run(self) -> None:
        """Fill the pool and keep it until told to stop; return when the last worker is reaped."""
        async with create_task_group() as tasks:
            self.pool = Pool(tasks, self._ports, self._slots)
            tasks.start_soon(self.pool.tend)
            tasks.start_soon(self._hold)
            tasks.start_soon(self._undertake, Roll(self.plan, Reloaded("applied", "started", "start")), self._fill)
            await self._stop.wait()
            await self._supersede()
            await self.pool.empty()
            tasks.cancel_scope.cancel()

    def stop(self, by: str) -> None:
        """Drain everybody and end `run`; asked twice, cut the drains."""
        if self.stopping:
            self.pool.hurry()
        self._ports.journal(Note("stop.hurried" if self.stopping else "stop.ordered", "info", {"by": by}))
        self.stopping = True
        self._stop.set()
        self.pool.bell.ring()

    async def reload(self, by: str, cause: Cause = Cause.RELOAD) -> Reloaded:
        """Bring the pool to what the files say now. *cause* RESTART or UPGRADE replaces every worker, changed or not."""
        report = await self._reload(by, cause)
        self._ports.journal(report)
        if cause is not Cause.RESTART:
            self.last_reload = report
        return report

    async def canary(self, plan: Plan, judge: Callable[[Worker], Awaitable[str | None]]) -> str | None:
        """Prove a worker of *plan* without letting it serve; return what is wrong with it."""
        return "stopping" if self.stopping else await self.pool.audition(plan, judge)

    async def _reload(self, by: str, cause: Cause) -> Reloaded:
        kept = f"keeping generation {self.pool.generation}"
        if self.stopping:
            return Reloaded("refused", f"stopping; {kept}", by)
        try:
            plan = self._read()
        except ConfigError as error:
            return Reloaded("refused", f"{error}\n{kept}", by)
        changed = changes(self.plan.settings, plan.settings)
        named = tuple(str(change) for change in changed) + self.plan.birth.differs(plan.birth)
        if fixed := [change.path for change in changed if change.kind == "fixed"]:
            why = f"{', '.join(fixed)} can only change when the supervisor itself restarts; {kept}"
            return Reloaded("refused", why, by, named)
        everyone = cause is not Cause.RELOAD
        if current := self._roll:
            if current.plan == plan and not everyone:
                await current.done.wait()
                return replace(current.report, by=by)
        elif not everyone and plan == self.plan and self.pool.matches(plan):
            return Reloaded("unchanged", f"nothing changed; {kept}", by)
        roll = Roll(plan, Reloaded("failed", f"{SUPERSEDED}; {kept}", by, named))
        await self._undertake(roll, lambda roll: self._change(roll, cause, everyone=everyone))
        return roll.report

    async def _undertake(self, roll: Roll, work: Callable[[Roll], Awaitable[None]]) -> None:
        """One roll at a time: the newest."""
        await self._supersede()
        if self.stopping:
            return
        self._roll = roll
        try:
            with roll.scope:
                await work(roll)
        finally:
            self._roll = None
            roll.done.set()

    async def _supersede(self) -> None:
        while current := self._roll:
            current.scope.cancel()
            await current.done.wait()

    async def _fill(self, roll: Roll) -> None:
        await self.pool.fill(roll.plan)

    async def _change(self, roll: Roll, cause: Cause, *, everyone: bool) -> None:
        rolls = everyone or any(seat.plan.birth != roll.plan.birth for seat in self.pool.seats)
        if reason := await self.pool.roll(roll.plan, cause, everyone=everyone):
            kept = f"keeping generation {self.pool.generation}"
            roll.report = replace(roll.report, detail=f"cannot replace a worker: {reason}; {kept}")
            return
        self.plan = roll.plan
        self._adopt(roll.plan)
        result = "rolled" if rolls else "applied"
        what = ", ".join(roll.report.changes) or ("every worker replaced" if rolls else "nothing changed")
        roll.report = replace(roll.report, result=result, detail=f"{what}; generation {self.pool.generation}")
        await self.pool.resize(roll.plan)

    async def _hold(self) -> None:
        """While nobody has served for longer than `hold`, answer in the workers' stead."""
        bell = self.pool.bell
        while True:
            with move_on_after(self.plan.settings.proxy.hold):
                await bell.until(lambda: self.pool.serving > 0 or self.stopping)
            if self.pool.serving == 0:
                async with self._answer():
                    await bell.until(lambda: self.pool.serving > 0)
            self.ever_served = True
            await bell.until(lambda: self.pool.serving == 0)
