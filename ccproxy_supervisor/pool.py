"""The slots and the standbys: fill them, promote, replace, roll, resize, empty."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from anyio import CancelScope, create_task_group, current_time
from anyio.abc import TaskGroup

from ccproxy_supervisor.condition import Condition
from ccproxy_supervisor.core.model import Cause, Failover, State, Survivor
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.status import WorkerView
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.relief import Relief
from ccproxy_supervisor.seat import Seat, Slot, view
from ccproxy_supervisor.succession import Succession
from ccproxy_supervisor.worker import Worker


class Pool:
    """Owns every seat; the only one that says who serves."""

    def __init__(self, tasks: TaskGroup, ports: Ports, slots: Iterable[Slot] = (), newest: int = 0) -> None:
        self.condition = Condition()
        self.seats: list[Seat] = []
        self.workers: list[Worker] = []  # all that live: newcomers and draining ones too
        self.generation = 0
        self.newest = newest  # number of the worker that was hired last
        self._plan: Plan | None = None  # the last one that every seat came to
        self._slots = {slot.number: slot for slot in slots}
        self._tasks, self._ports = tasks, ports
        self._admitted: set[Seat] = set()  # the seats, and newcomers that have not taken one yet
        self._succession = Succession(self.seats, self.workers, self.condition, ports, self._newcomer)
        self._relief = Relief(self.seats, self.condition, ports, self._newcomer)
        self._rolling = self._emptying = False
        self._easing: CancelScope | None = None  # of a replacement that nobody ordered

    @property
    def serving(self) -> int:
        return sum(worker.serving for worker in self.workers)

    @property
    def failed(self) -> bool:
        """Whether some slot has ever lost a worker unasked."""
        return any(seat.failed for seat in self.seats if seat.slot)

    def matches(self, plan: Plan) -> bool:
        """Whether every seat already runs what *plan* asks for."""
        return all(seat.plan == plan for seat in self.seats)

    async def fill(self, plan: Plan, survivors: Sequence[Survivor] = ()) -> None:
        """Let *survivors* go on where they were, and start whoever is missing."""
        self.generation = max((survivor.generation for survivor in survivors), default=0) or self.generation + 1
        for survivor in sorted(survivors, key=lambda s: (s.state is State.SERVING, s.number), reverse=True):
            self._welcome(survivor, plan)
        await self.resize(plan)

    async def resize(self, plan: Plan) -> None:
        """Adopt *plan* where no new worker is needed, and its number of slots and standbys; return when new slots have
        settled."""
        self._plan, proxy = plan, plan.settings.proxy
        for seat in [s for s in self.seats if s.slot and s.slot.number >= proxy.workers]:
            self._dismiss(seat)
        for seat in [s for s in self.seats if not s.slot][proxy.standby :]:
            self._dismiss(seat)
        for seat in self.seats:
            if seat.plan.birth == plan.birth:
                seat.adopt(plan)
        taken = {seat.slot.number for seat in self.seats if seat.slot}
        fresh = [self._admit(plan, self.slot(number)) for number in range(proxy.workers) if number not in taken]
        self.seats += fresh
        self.condition.notify_all()
        await self.condition.wait_for(lambda: all(seat.settled for seat in fresh))

    async def roll(self, plan: Plan, cause: Cause, upto: int = 0) -> str | None:
        """Bring every seat to *plan*, make before break, one by one; stop at the first newcomer that fails.

        Seats that match already are left alone, unless their worker is numbered *upto* or less: a roll that was broken
        off is finished by calling again. Returns why it stopped, or None.
        """
        self._rolling = True
        changed = any(seat.plan.birth != plan.birth for seat in self.seats)
        generation = self.generation + (changed or cause is not Cause.RESTART)
        try:
            if self._easing:
                self._easing.cancel()
                await self.condition.wait_for(lambda: self._easing is None)
            for seat in sorted(self.seats, key=lambda s: s.slot.number if s.slot else len(self.seats)):
                beyond = seat.slot is not None and seat.slot.number >= plan.settings.proxy.workers
                old = seat.plan.birth != plan.birth or seat.worker.number <= upto
                if beyond or not old or seat not in self.seats:
                    continue
                if reason := await self._succession.replace(seat, plan, generation, cause):
                    return reason
                self.generation = generation
        finally:
            self._rolling = False
            self.condition.notify_all()
        return None

    async def audition(self, plan: Plan, judge: Callable[[Worker], Awaitable[str | None]]) -> str | None:
        """Prove a worker of *plan* beside the others without ever letting it serve; return what is wrong with it."""
        seat = self._admit(plan)
        worker = seat.worker
        try:
            await self.condition.wait_for(lambda: seat.settled)
            if seat.warm:
                return self._succession.lacking(worker) or await judge(worker)
            seat.retire(Cause.UPGRADE, self.condition)  # at once: a seat hires the next while the first is being killed
            return await self._succession.reason(worker)
        finally:
            seat.retire(Cause.UPGRADE, self.condition)

    async def tend(self) -> None:
        """Give every slot without a serving worker a warm one; add missing standbys; replace who is in doubt or too big."""
        async with create_task_group() as tasks:
            while not self._emptying:
                for seat in list(self.seats):
                    self._promote(seat)
                self._complete()
                for seat in [] if self._rolling else self._relief.needed():
                    tasks.start_soon(self._relief.lend, seat)
                stale = [seat for seat in self.seats if seat.worker.doubt or seat.worker.outgrown]
                if stale and not self._rolling and self._easing is None:
                    self._easing = CancelScope()
                    tasks.start_soon(self._ease, min(stale, key=lambda s: s.worker.doubt is None), self._easing)
                await self.condition.notified()

    async def empty(self) -> None:
        """Drain everybody, for good; return when the last one is reaped."""
        self._emptying = True
        if self._easing:
            self._easing.cancel()
        for seat in list(self._admitted):
            seat.retire(Cause.STOP, self.condition)
        await self.condition.wait_for(lambda: not self.workers)

    def hurry(self) -> None:
        """Cut every drain short."""
        for worker in self.workers:
            worker.hurry()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Every slot there ever was, for the next supervisor."""
        return tuple(self._slots.values())

    def slot(self, number: int) -> Slot:
        return self._slots.setdefault(number, Slot(number))

    def _promote(self, seat: Seat) -> None:
        """See to *seat*'s slot: swap in a standby if its own worker is not there, and note a failover's end."""
        slot = seat.slot
        if slot is None or slot is self._succession.handing_over or slot in self._relief.slots:
            return
        if seat.serving:
            if slot.lost_at is not None:
                self._ports.journal(Failover(slot.number, current_time() - slot.lost_at))
                slot.lost_at = None
            return
        if seat.worker.asked and not seat.worker.lost:
            return  # on its way
        warm = [seat] if seat.warm else [s for s in self.seats if not s.slot and s.warm]
        if oldest := min(warm, key=lambda s: s.worker.number, default=None):
            seat.slot, oldest.slot = oldest.slot, slot
            oldest.activate()

    def _complete(self) -> None:
        """Start the standbys that are missing, when the slots have settled: a start costs a whole core."""
        if self._plan is None or self._rolling or not all(seat.settled for seat in self.seats if seat.slot):
            return
        missing = self._plan.settings.proxy.standby - sum(seat.slot is None for seat in self.seats)
        self.seats += [self._admit(self._plan) for _ in range(missing)]

    async def _ease(self, seat: Seat, scope: CancelScope) -> None:
        try:
            with scope:
                await self._succession.ease(seat)
        finally:
            self._easing = None
            self.condition.notify_all()

    def _newcomer(self, plan: Plan, generation: int) -> Seat:
        return self._admit(plan, generation=generation)

    def _welcome(self, survivor: Survivor, plan: Plan) -> None:
        """Give *survivor* the slot it had, unless a newer worker was to take it, or one that is free when it serves none."""
        worker = Worker(survivor.number, survivor.generation, survivor.plan, self._ports, self.condition, survivor)
        self._employ(worker)
        taken = {seat.slot.number for seat in self.seats if seat.slot}
        serves = survivor.state is State.SERVING
        free = [number for number in range(plan.settings.proxy.workers) if number not in taken]
        number = next(iter(free), None) if survivor.slot is None else survivor.slot
        slot = None if number is None or number in taken else self.slot(number)
        seat = self._admit(survivor.plan, slot, survivor.generation, worker)
        worker.slot, seat.successor = slot.number if slot else None, plan
        if serves and slot is None:
            seat.retire(Cause.RELOAD, self.condition)
        else:
            self.seats.append(seat)

    def _admit(
        self, plan: Plan, slot: Slot | None = None, generation: int | None = None, worker: Worker | None = None
    ) -> Seat:
        seat = Seat(plan, self.generation if generation is None else generation, slot, self._hire, worker)
        self._admitted.add(seat)
        self._tasks.start_soon(self._tend, seat)
        return seat

    async def _tend(self, seat: Seat) -> None:
        try:
            await seat.tend(self._lose, self._ports.draw, self._ports.journal, self.condition)
        finally:
            self._admitted.discard(seat)

    def _dismiss(self, seat: Seat, cause: Cause = Cause.RELOAD) -> None:
        self.seats.remove(seat)
        seat.retire(cause, self.condition)

    def _hire(self, seat: Seat) -> Worker:
        self.newest += 1
        worker = Worker(self.newest, seat.generation, seat.plan, self._ports, self.condition)
        worker.slot = seat.slot.number if seat.slot else None
        self._employ(worker)
        return worker

    def _employ(self, worker: Worker) -> None:
        self.newest = max(self.newest, worker.number)
        self.workers.append(worker)
        self._tasks.start_soon(self._live, worker, name=f"worker-{worker.number}")

    async def _live(self, worker: Worker) -> None:
        try:
            await worker.live()
        finally:
            self.workers.remove(worker)
            if worker.slot is not None and worker.ending:
                self.slot(worker.slot).last_ending = worker.ending
            self.condition.notify_all()

    def _lose(self, worker: Worker) -> None:
        """A worker was lost unasked: its slot counts it, and from now on the failover."""
        if worker.slot is None:
            return
        slot = self.slot(worker.slot)
        slot.restarts += 1
        if worker.served and slot.lost_at is None and not worker.relieved:
            slot.lost_at = current_time()

    def views(self) -> list[WorkerView]:
        """Every place with its worker, slots first, then those without a place: newcomers and draining ones."""
        seated = sorted(self.seats, key=lambda s: s.slot.number if s.slot else len(self.seats))
        placed = {seat.worker for seat in seated}
        return [seat.view() for seat in seated] + [view(w, None) for w in self.workers if w not in placed]
