"""Takes orders: reload, restart, canary, stop. What the newest one read is what comes to serve."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from anyio import CancelScope, create_task_group, current_time, move_on_after, sleep

from ccproxy_supervisor.core.changes import changes
from ccproxy_supervisor.core.faults import ConfigError, told
from ccproxy_supervisor.core.model import SUPERSEDED, Cause, Note, Reloaded, Survivor
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.pool import Pool
from ccproxy_supervisor.ports import Ports, sturdy
from ccproxy_supervisor.seat import Slot
from ccproxy_supervisor.worker import Worker

RETRY = 1.0  # seconds until somebody who failed to hold the public socket tries again


@dataclass
class Order:
    """Bring the pool to *plan*, and replace every worker numbered *upto* or less. Open until it has a *report*."""

    number: int
    by: str
    cause: Cause
    plan: Plan
    changes: tuple[str, ...] = ()
    upto: int = 0
    report: Reloaded | None = None


@dataclass
class Roll:
    """The pool's way to one plan, for all who ordered that; *outcome* is set as soon as it is known."""

    plan: Plan
    upto: int
    cause: Cause
    changes: tuple[str, ...]
    scope: CancelScope = field(default_factory=CancelScope)
    outcome: tuple[str, str] | None = None  # result and detail of a `Reloaded`

    def serves(self, order: Order) -> bool:
        return order.plan == self.plan and order.upto <= self.upto


class Supervisor:
    """*read* gives the plan on disk or raises `ConfigError`; *adopt* tells the edges of a new one;
    *answer* holds the public socket while nobody serves. *survivors* are taken on; others are numbered from *newest* on."""

    def __init__(
        self, plan: Plan, read: Callable[[], Plan], adopt: Callable[[Plan], None], ports: Ports,
        answer: Callable[[], AbstractAsyncContextManager[None]], slots: Iterable[Slot] = (),
        survivors: Sequence[Survivor] = (), newest: int = 0,
    ) -> None:  # fmt: skip
        self.plan, self.started = plan, current_time()
        self.stopping = self.leaving = False
        self.ever_served = False
        self.last_reload: Reloaded | None = None
        self._read, self._adopt, self._answer = read, adopt, answer
        self._ports, self._slots = sturdy(ports), slots
        self._survivors, self._newest = survivors, newest
        self._numbers = itertools.count(1)
        self._orders = [Order(0, "start", Cause.RELOAD, plan)]
        self._roll: Roll | None = None

    async def run(self) -> None:
        """Fill the pool and keep it until told to stop; return when the last worker is reaped, or left to the next."""
        async with create_task_group() as tasks:
            self.pool = Pool(tasks, self._ports, self._slots, self._newest)
            tasks.start_soon(self.pool.tend)
            tasks.start_soon(self._hold)
            await self._obey()
            if self.stopping:
                self.leaving = False
                await self.pool.empty()
            tasks.cancel_scope.cancel()

    def stop(self, by: str) -> None:
        """Drain everybody and end `run`; asked twice, cut the drains."""
        if self.stopping:
            self.pool.hurry()
        self._ports.journal(Note("stop.hurried" if self.stopping else "stop.ordered", "info", {"by": by}))
        self.stopping = True
        self._interrupt()

    def leave(self) -> None:
        """End `run` as soon as no order is open, all workers left to the next supervisor, unless a stop comes first."""
        self.leaving = True
        self.pool.condition.notify_all()

    async def reload(self, by: str, cause: Cause = Cause.RELOAD) -> Reloaded:
        """Bring the pool to what the files say now. *cause* RESTART or UPGRADE replaces every worker, changed or not."""
        order = self._take(by, cause)
        if isinstance(order, Reloaded):
            self._tell(order, cause)
            return order
        self._orders.append(order)
        if self._roll and not self._roll.serves(order):
            self._interrupt()
        self.pool.condition.notify_all()
        await self.pool.condition.wait_for(lambda: order.report is not None)
        assert order.report is not None
        return order.report

    async def canary(self, plan: Plan, judge: Callable[[Worker], Awaitable[str | None]]) -> str | None:
        """Prove a worker of *plan* without letting it serve; return what is wrong with it."""
        try:
            return "stopping" if self.stopping else await self.pool.audition(plan, judge)
        except Exception as error:  # of the judge: a worker that cannot be judged is not proven
            return told(error)

    @property
    def _kept(self) -> str:
        return f"keeping generation {self.pool.generation}"

    def _take(self, by: str, cause: Cause) -> Order | Reloaded:
        """Read the files; return what is ordered, or why it is refused."""
        number = next(self._numbers)
        if self.stopping:
            return Reloaded("refused", f"stopping; {self._kept}", by, order=number)
        try:
            plan = self._read()
        except ConfigError as error:
            return Reloaded("refused", f"{error}\n{self._kept}", by, order=number)
        except Exception as error:  # a bug of the reader must not cost what serves
            return Reloaded("refused", f"cannot read the configuration: {told(error)}\n{self._kept}", by, order=number)
        changed = changes(self.plan.settings, plan.settings)
        named = tuple(str(change) for change in changed) + self.plan.birth.differs(plan.birth)
        if fixed := [change.path for change in changed if change.kind == "fixed"]:
            why = f"{', '.join(fixed)} can only change when the supervisor begins anew, by: ccproxy-supervisor renew; {self._kept}"
            return Reloaded("refused", why, by, named, number)
        return Order(number, by, cause, plan, named, 0 if cause is Cause.RELOAD else self.pool.newest)

    def _interrupt(self) -> None:
        if self._roll:
            self._roll.scope.cancel()
        self.pool.condition.notify_all()

    async def _obey(self) -> None:
        """One roll at a time, to what was read last, for everybody who waits; a restart that it overtakes goes with it."""
        while not self.stopping and (self._orders or not self.leaving):
            self._roll = roll = self._next()
            with roll.scope:
                await self._undertake(roll)
            self._roll = None
            if roll.outcome:
                for order in [order for order in self._orders if roll.serves(order)]:
                    self._close(order, *roll.outcome)
            elif not self.stopping:
                self._ports.journal(Note("roll.interrupted", "info", {"detail": f"{SUPERSEDED}; {self._kept}"}))
            await self.pool.condition.wait_for(lambda: bool(self._orders) or self.stopping or self.leaving)
        for order in list(self._orders):
            self._close(order, "failed", f"stopping; {self._kept}")

    def _next(self) -> Roll:
        """The newest order, and what older ones still want; a reload whose files were read anew since is closed."""
        newest, restarts = self._orders[-1], [order for order in self._orders if order.upto]
        cause = restarts[-1].cause if restarts else Cause.RELOAD
        for order in restarts:
            order.plan = newest.plan
        roll = Roll(newest.plan, max(order.upto for order in self._orders), cause, newest.changes)
        for order in [order for order in self._orders if not roll.serves(order)]:
            self._close(order, "failed", f"{SUPERSEDED}; {self._kept}")
        return roll

    def _close(self, order: Order, result: str, detail: str) -> None:
        self._orders.remove(order)
        order.report = Reloaded(result, detail, order.by, order.changes, order.number)
        if order.number or result == "failed":
            self._tell(order.report, order.cause)
        self.pool.condition.notify_all()

    def _tell(self, report: Reloaded, cause: Cause) -> None:
        self._ports.journal(report)
        if cause is not Cause.RESTART and not (self.last_reload and self.last_reload.order > report.order):
            self.last_reload = report

    async def _undertake(self, roll: Roll) -> None:
        try:
            if self.pool.generation == 0:
                roll.outcome = "applied", "started"
                await self.pool.fill(roll.plan, self._survivors)
                if any(seat.plan.birth != roll.plan.birth for seat in self.pool.seats):
                    await self._change(roll)
            elif not roll.upto and roll.plan == self.plan and self.pool.matches(roll.plan):
                roll.outcome = "unchanged", f"nothing changed; {self._kept}"
            else:
                await self._change(roll)
        except Exception as error:  # a bug, but what serves is none the worse for it
            roll.outcome = "failed", f"cannot replace a worker: {told(error)}; {self._kept}"

    async def _change(self, roll: Roll) -> None:
        rolls = roll.upto > 0 or any(seat.plan.birth != roll.plan.birth for seat in self.pool.seats)
        if reason := await self.pool.roll(roll.plan, roll.cause, roll.upto):
            roll.outcome = "failed", f"cannot replace a worker: {reason}; {self._kept}"
            return
        self.plan = roll.plan
        what = ", ".join(roll.changes) or ("every worker replaced" if rolls else "nothing changed")
        try:
            self._adopt(roll.plan)
        except Exception as error:  # a bug of an edge; the workers have changed all the same
            what += f"; cannot adopt all of it: {told(error)}"
        roll.outcome = "rolled" if rolls else "applied", f"{what}; generation {self.pool.generation}"
        await self.pool.resize(roll.plan)

    async def _hold(self) -> None:
        """While nobody has served for longer than `hold`, answer in the workers' stead; at the start not before a worker
        has failed, for it has a time limit of its own."""
        condition = self.pool.condition
        while True:
            with move_on_after(self.plan.settings.proxy.hold):
                await condition.wait_for(lambda: self.pool.serving > 0 or self.stopping)
            await condition.wait_for(
                lambda: self.pool.serving > 0 or self.stopping or self.ever_served or self.pool.failed
            )
            while self.pool.serving == 0:
                await self._answer_all()
            self.ever_served = True
            await condition.wait_for(lambda: self.pool.serving == 0)

    async def _answer_all(self) -> None:
        try:
            async with self._answer():
                await self.pool.condition.wait_for(lambda: self.pool.serving > 0)
        except Exception as error:
            self._ports.journal(Note("holding.failed", "error", {"reason": told(error)}))
            await sleep(RETRY)
