"""One LiteLLM process, from spawn to reap, as one straight path."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from anyio import CancelScope, create_task_group, current_time, move_on_after, sleep, sleep_forever

from ccproxy_supervisor.condition import Condition
from ccproxy_supervisor.core.doubt import Doubt, Path
from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.model import (
    MOVES,
    UNKNOWN,
    Cause,
    Child,
    Ending,
    Note,
    Probed,
    SpawnError,
    State,
    Survivor,
    Transition,
    Verdict,
)
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.policy import Streak, outgrown, patience
from ccproxy_supervisor.ports import Ports

EAGER = 0.1  # seconds between the probes that prove a new worker
HUSH = 1.0  # seconds without an answer after which a worker is silent: longer than LiteLLM blocks its loop when all is well
LIVELY = 1.0  # seconds between two probes, at the most, while requests come …
LINGER = 10.0  # … and so long after the last: clients' connections are kept, and what is asked on them is not seen here


class _NotWantedError(Exception):
    """It was retired before there was a process."""


class Worker:
    """Only its own task writes *state*; everyone else asks (`activate`, `retire`) and waits on the condition."""

    def __init__(
        self,
        number: int,
        generation: int,
        plan: Plan,
        ports: Ports,
        condition: Condition,
        survivor: Survivor | None = None,
    ) -> None:
        self.number, self.generation, self.plan = number, generation, plan
        self.state: State | None = None
        self.slot: int | None = None
        self.cause: Cause | None = None  # set once it is being ended
        self.ending: Ending | None = None
        self.outgrown: Cause | None = None
        self.pid: int | None = None
        self.child: Child | None = None
        self.dropped: Mapping[str, str] = {}  # models that it does not serve, and why
        self.served = False
        self.streak, self.path = Streak(), Path()
        self.doubt: Doubt | None = None  # it answers its probes, but perhaps not its users
        self.silent_since: float | None = None  # heart's clock; while it owes an answer for too long, or gave a bad one
        self.relieved = False  # another serves beside it
        self.asked, self._hurried = False, False  # to serve, to leave at once
        self._retired: Cause | None = None
        self._detail = ""  # why, where the cause does not say it
        self._acquitted = 0.0  # heart's clock; until then it is not doubted
        self._used = -LINGER  # heart's clock; when it last had users
        self._ports, self._condition = ports, condition
        self.born = self._moved = current_time()
        self._proven: float | None = None
        self.survivor = survivor
        if survivor:
            self.pid, self.slot, self.born = survivor.pid, survivor.slot, self.born - survivor.age
            self.asked = self.served = survivor.state is State.SERVING

    @property
    def warm(self) -> bool:
        """Proven and not yet asked to serve."""
        return self.state is State.STANDBY and not self.asked and not self.lost

    @property
    def lost(self) -> bool:
        """Ended, or as good as: its place needs another worker."""
        return self.cause is not None or self._retired is not None

    @property
    def serving(self) -> bool:
        return self.state is State.SERVING and not self.lost

    @property
    def proven(self) -> bool:
        return self._proven is not None and not self.lost

    @property
    def silent(self) -> bool:
        return self.silent_since is not None

    @property
    def uptime(self) -> float:
        return current_time() - self.born

    @property
    def well(self) -> float:
        """Seconds since it was proven; 0 if it never was."""
        return 0.0 if self._proven is None else current_time() - self._proven

    def adopt(self, plan: Plan) -> None:
        """Go by *plan* from now on, which asks for no new process."""
        self.plan = plan
        if self.child:
            self.child.provide(plan, self.generation)

    def activate(self, slot: int | None) -> None:
        """Let it serve in *slot*, or beside another."""
        self.slot, self.asked = slot, True
        self._condition.notify_all()

    def retire(self, cause: Cause, detail: str = "") -> None:
        """Ask it to drain and leave; the first cause stands."""
        if self._retired is None:
            self._retired, self._detail = cause, detail
        self._condition.notify_all()

    def acquit(self, seconds: float) -> None:
        """Take the doubt away, for so long at least."""
        self.doubt, self.path, self._acquitted = None, Path(), current_time() + seconds

    def hurry(self) -> None:
        """Cut a drain short."""
        self._hurried = True
        self._condition.notify_all()

    async def live(self) -> None:
        """Run the process until it is reaped. Its exit is the only way out."""
        self._enter(self.survivor.state if self.survivor else State.STARTING)
        status: int | None = None
        detail = ""
        output: tuple[str, ...] = ()
        try:
            if self.survivor is None:
                await self._prepare()
            spawned = self.survivor.take() if self.survivor else self._ports.spawn(self.number, self.plan)
            async with spawned as child:
                self.child, self.pid = child, child.pid
                child.provide(self.plan, self.generation)
                async with create_task_group() as watch:
                    watch.start_soon(self._heed_retirement, child)
                    watch.start_soon(self._heed_departure, child)
                    watch.start_soon(self._prove_and_watch, child)
                    status = await child.wait()
                    watch.cancel_scope.cancel()
                self._lose(Cause.EXITED)  # before its last lines are read: a standby must not wait for them
                output = await child.output()
        except _NotWantedError:
            pass
        except Exception as error:  # of starting, watching or cleaning up: it ends this worker and nobody else
            self._lose(Cause.EXITED if self.child else Cause.SPAWN_FAILED)
            detail = str(error) if isinstance(error, SpawnError) else told(error)
        # Not if it is cancelled: then the process goes on, for the next supervisor.
        cause, unknown = self._lose(Cause.EXITED), UNKNOWN if self.survivor and status is None else ""
        detail = detail or self._detail or unknown
        self.ending = Ending(cause, self.uptime, self._ports.wall(), status, detail, output)
        self._enter(State.GONE)

    async def _prepare(self) -> None:
        """Wait for who can fork it, for as long as a start may take."""
        async with create_task_group() as tasks:
            tasks.start_soon(self._give_up_when_retired, tasks.cancel_scope)
            with move_on_after(self.plan.settings.proxy.start_timeout):
                await self._ports.prepare(self.plan)
            tasks.cancel_scope.cancel()
        if self._retired is not None:
            raise _NotWantedError

    async def _give_up_when_retired(self, scope: CancelScope) -> None:
        await self._condition.wait_for(lambda: self._retired is not None)
        scope.cancel()

    def _lose(self, cause: Cause) -> Cause:
        self.cause = self.cause or self._retired or cause
        self._condition.notify_all()
        return self.cause

    async def _heed_retirement(self, child: Child) -> None:
        await self._condition.wait_for(lambda: self._retired is not None)
        assert self._retired is not None
        await self._end(child, self._retired)

    async def _heed_departure(self, child: Child) -> None:
        """A stranger's SIGTERM makes it drain unasked: it accepts nobody any more, however long its streams last."""
        await child.draining()
        await self._end(child, Cause.EXITED)

    async def _prove_and_watch(self, child: Child) -> None:
        if self.state is State.STARTING:
            with move_on_after(self.plan.settings.proxy.start_timeout) as late:
                await self._prove(child)
            if late.cancelled_caught:
                await self._end(child, Cause.START_TIMEOUT)
            if self.state is not State.STARTING:
                return  # being ended already
            self._enter(State.STANDBY)
        self._proven = current_time() if self.state is State.STANDBY else self.born
        async with create_task_group() as tasks:
            tasks.start_soon(self._serve_when_asked, child)
            tasks.start_soon(self._insist_on_health, child)

    async def _prove(self, child: Child) -> None:
        """Readiness is two things: its own word, and good answers in a row."""
        self.dropped = await child.ready()
        for model, reason in self.dropped.items():
            fields = {"worker": self.number, "model": model, "reason": reason}
            self._ports.journal(Note("model.dropped", "error", fields))
        streak = Streak()
        while True:
            health = self.plan.settings.health
            verdict = await self._ports.readiness(self.number, health.timeout)
            well = verdict is not None and verdict.ok
            self._note("readiness", verdict)
            streak = streak.after(well)
            if streak.good >= health.successes:
                return
            await sleep(EAGER if well else min(1.0, health.interval))

    async def _serve_when_asked(self, child: Child) -> None:
        await self._condition.wait_for(lambda: self.asked)
        if self.state is not State.STANDBY:  # it does already
            self.dropped = await child.ready()
            return
        with move_on_after(self.plan.settings.health.timeout) as late:
            await child.activate(self.slot)
        if late.cancelled_caught:
            await self._end(child, Cause.UNRESPONSIVE)
        if self.state is State.STANDBY:
            self.served = True
            self._enter(State.SERVING)

    async def _insist_on_health(self, child: Child) -> None:
        while self.cause is None:
            health = self.plan.settings.health
            asked = current_time()
            verdict = await self._listen_for_life(patience(health.interval, health.timeout))
            if self.cause is not None:
                return  # asked to leave meanwhile: it owes no answer
            self._note("liveness", verdict)
            if verdict and (verdict.ok or (verdict.blames and not self._ports.grace())):
                self.streak = self.streak.after(verdict.ok)
            if self.streak.bad >= health.failures:
                await self._end(child, Cause.UNRESPONSIVE)
            self._weigh(child)
            if self._look(verdict):
                self._used = asked
            lively = (
                not self.silent and asked - self._used <= LINGER
            )  # the verdict on one that is silent takes its time
            pause = min(health.interval, LIVELY) if lively else health.interval
            await self._rest(asked + pause)

    async def _rest(self, until: float) -> None:
        """Wait until the next probe is due: earlier than *until* where somebody waits whom nobody has taken."""
        await sleep(max(0.0, min(LIVELY, until - current_time())))
        if (left := until - current_time()) <= 0:
            return
        with move_on_after(left):
            await (self._ports.knocked() if self.serving and not self.silent else sleep_forever())

    async def _listen_for_life(self, patience: float) -> Verdict | None:
        async with create_task_group() as tasks:
            tasks.start_soon(self._fall_silent)
            verdict = await self._ports.liveness(self.number, patience)
            tasks.cancel_scope.cancel()
        if verdict is None or verdict.ok:
            self._hear(None)
        elif verdict.blames and not self._ports.grace():
            self._hear(current_time() if self.silent_since is None else self.silent_since)
        return verdict

    async def _fall_silent(self) -> None:
        asked = current_time()
        await sleep(HUSH)
        if not self._ports.grace():
            self._hear(asked if self.silent_since is None else self.silent_since)

    def _hear(self, silent_since: float | None) -> None:
        if silent_since != self.silent_since:
            self.silent_since = silent_since
            self._condition.notify_all()

    def _note(self, probe: str, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._ports.journal(Probed(probe, f"worker {self.number}", verdict))

    def _weigh(self, child: Child) -> None:
        """Notice a passed limit; the pool decides when to replace."""
        proxy, usage = self.plan.settings.proxy, self._ports.usage(child)
        limit = outgrown(self.uptime, usage.memory if usage else 0, proxy.max_age, proxy.max_memory)
        if limit is not self.outgrown:
            self.outgrown = limit
            self._condition.notify_all()

    def _look(self, verdict: Verdict | None) -> bool:
        """See whether its users are served as well; the pool decides what is to be done. Returns whether it has any."""
        traffic, ports = verdict.traffic if verdict else None, self._ports
        before = self.path.traffic
        if traffic is None or not self.serving or ports.grace():
            self.path = Path()
        else:
            self.path = self.path.after(traffic, current_time(), queued=ports.queued())
        doubt = self.path.doubt(self.plan.settings.health) if current_time() >= self._acquitted else None
        if (doubt is None) != (self.doubt is None):
            self._condition.notify_all()
        self.doubt = doubt
        return bool(
            verdict and verdict.ok and traffic and (traffic.inside or (before and before.taken != traffic.taken))
        )

    async def _end(self, child: Child, cause: Cause) -> None:
        """Ask, wait, insist. Cancelled by the exit it brings about."""
        if self.cause is not None:
            await sleep_forever()  # already being ended, for another cause
        drainable = self.state in (State.STANDBY, State.SERVING) and (
            cause.planned or cause is Cause.EXITED or cause is self._retired
        )
        self.cause = cause
        self._enter(State.DRAINING)
        proxy = self.plan.settings.proxy
        if drainable and not self._hurried:
            child.drain(proxy.drain_timeout)
            with move_on_after(proxy.drain_timeout):
                await self._condition.wait_for(lambda: self._hurried)
        child.signal(signal.SIGTERM)
        with move_on_after(proxy.kill_timeout):
            await self._condition.wait_for(lambda: self._hurried)
        child.signal(signal.SIGKILL)
        await sleep_forever()

    def _enter(self, new: State) -> None:
        if new not in MOVES[self.state]:
            raise AssertionError(f"cannot move worker {self.number} from {self.state} to {new}")
        old, self.state = self.state, new
        spent, self._moved = current_time() - self._moved, current_time()
        ending = self.ending if new is State.GONE else None
        self._ports.journal(
            Transition(
                self.number,
                self.slot,
                self.generation,
                old,
                new,
                spent,
                self.pid,
                ending,
                adopted=self.survivor is not None,
            )
        )
        self._condition.notify_all()
