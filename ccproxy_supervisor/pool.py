"""The slots and the standbys: fill them, promote, replace, roll, resize, empty."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from anyio import CancelScope, create_task_group, current_time, sleep
from anyio.abc import TaskGroup

from ccproxy_supervisor.bell import Bell
from ccproxy_supervisor.core.lines import telling
from ccproxy_supervisor.core.model import Cause, Failover, Note, State
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.status import WorkerView
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.seat import Seat, Slot
from ccproxy_supervisor.worker import Worker


class Pool:
    """Owns every seat; the only one that says who serves."""

    def __init__(self, tasks: TaskGroup, ports: Ports, slots: Iterable[Slot] = ()) -> None:
        self.bell = Bell()
        self.seats: list[Seat] = []
        self.workers: list[Worker] = []  # all that live: newcomers and draining ones too
        self.generation = 0
        self.newest = 0  # number of the worker that was hired last
        self._plan: Plan | None = None  # the last one that every seat came to
        self._slots = {slot.number: slot for slot in slots}
        self._tasks, self._ports = tasks, ports
        self._admitted: set[Seat] = set()  # the seats, and newcomers that have not taken one yet
        self._handing_over: Slot | None = None
        self._rolling = self._emptying = False
        self._outgrowing: CancelScope | None = None

    @property
    def serving(self) -> int:
        return sum(worker.serving for worker in self.workers)

    def matches(self, plan: Plan) -> bool:
        """Whether every seat already runs what *plan* asks for."""
        return all(seat.plan == plan for seat in self.seats)

    async def fill(self, plan: Plan) -> None:
        self.generation += 1
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
            seat.adopt(plan)
        taken = {seat.slot.number for seat in self.seats if seat.slot}
        fresh = [self._admit(plan, self.slot(number)) for number in range(proxy.workers) if number not in taken]
        self.seats += fresh
        self.bell.ring()
        await self.bell.until(lambda: all(seat.settled for seat in fresh))

    async def roll(self, plan: Plan, cause: Cause, upto: int = 0) -> str | None:
        """Bring every seat to *plan*, make before break, one by one; stop at the first newcomer that fails.

        Seats that match already are left alone, unless their worker is numbered *upto* or less: a roll that was broken
        off is finished by calling again. Returns why it stopped, or None.
        """
        self._rolling = True
        changed = any(seat.plan.birth != plan.birth for seat in self.seats)
        generation = self.generation + (changed or cause is not Cause.RESTART)
        try:
            if self._outgrowing:
                self._outgrowing.cancel()
                await self.bell.until(lambda: self._outgrowing is None)
            for seat in sorted(self.seats, key=lambda s: s.slot.number if s.slot else len(self.seats)):
                beyond = seat.slot is not None and seat.slot.number >= plan.settings.proxy.workers
                old = seat.plan.birth != plan.birth or seat.worker.number <= upto
                if beyond or not old or seat not in self.seats:
                    continue
                if reason := await self._replace(seat, plan, generation, cause):
                    return reason
                self.generation = generation
        finally:
            self._rolling = False
            self.bell.ring()
        return None

    async def audition(self, plan: Plan, judge: Callable[[Worker], Awaitable[str | None]]) -> str | None:
        """Prove a worker of *plan* beside the others without ever letting it serve; return what is wrong with it."""
        seat = self._admit(plan)
        worker = seat.worker
        try:
            await self.bell.until(lambda: seat.settled)
            if seat.warm:
                return await judge(worker)
            seat.retire(Cause.UPGRADE, self.bell)  # at once: a seat hires the next while the first is being killed
            return await self._reason(worker)
        finally:
            seat.retire(Cause.UPGRADE, self.bell)

    async def tend(self) -> None:
        """Give every slot without a serving worker a warm one; add missing standbys; replace what has outgrown its limits."""
        async with create_task_group() as tasks:
            while not self._emptying:
                for seat in list(self.seats):
                    self._promote(seat)
                self._complete()
                stale = next(((seat, limit) for seat in self.seats if (limit := seat.worker.outgrown)), None)
                if stale and not self._rolling and self._outgrowing is None:
                    self._outgrowing = CancelScope()
                    tasks.start_soon(self._outgrow, *stale, self._outgrowing)
                await self.bell.rung()

    async def empty(self) -> None:
        """Drain everybody, for good; return when the last one is reaped."""
        self._emptying = True
        if self._outgrowing:
            self._outgrowing.cancel()
        for seat in list(self._admitted):
            seat.retire(Cause.STOP, self.bell)
        await self.bell.until(lambda: not self.workers)

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
        if slot is None or slot is self._handing_over:
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

    async def _replace(self, old: Seat, plan: Plan, generation: int, cause: Cause) -> str | None:
        """Make before break: prove a newcomer, let it serve, then drain the old one. Returns why not, or None."""
        new = self._admit(plan, generation=generation)
        first = new.worker
        try:
            await self.bell.until(lambda: new.settled)
            if new.warm and old in self.seats:
                await self._hand_over(old, new)
            if new not in self.seats:
                new.retire(cause, self.bell)
                return await self._reason(first)
        finally:
            (old if new in self.seats else new).retire(cause, self.bell)
        leaving = old.worker  # one drains at a time: each costs its memory until it is gone
        await self.bell.until(lambda: leaving not in self.workers)
        return None

    async def _hand_over(self, old: Seat, new: Seat) -> None:
        """Give *new* the seat of *old*, and take it back unless it comes to serve."""
        self._exchange(old, new)
        if new.slot is None:
            return
        self._handing_over = new.slot
        new.activate()
        try:
            await self.bell.until(lambda: new.serving or new.failed or new.retired is not None)
        finally:
            if not new.serving:
                self._exchange(new, old)
            self._handing_over = None
            self.bell.ring()

    def _exchange(self, old: Seat, new: Seat) -> None:
        self.seats[self.seats.index(old)] = new
        new.slot, old.slot = old.slot, None

    async def _outgrow(self, seat: Seat, limit: Cause, scope: CancelScope) -> None:
        try:
            with scope:
                if reason := await self._replace(seat, seat.plan, seat.generation, limit):
                    self._ports.journal(Note("replacement.failed", "error", {"reason": reason}))
                    await sleep(seat.plan.settings.restart.longest_delay)
        finally:
            self._outgrowing = None
            self.bell.ring()

    async def _reason(self, worker: Worker) -> str:
        """Why *worker* did not make it, with its last line."""
        if not worker.lost:
            return "its place was given up meanwhile"
        await self.bell.until(lambda: worker.ending is not None)
        ending = worker.ending
        assert ending is not None
        what = (
            ending.detail
            or f"worker {worker.number} ended before it was ready ({ending.cause}, status {ending.status})"
        )
        return f"{what}: {telling(ending.output)}" if ending.output else what

    def _admit(self, plan: Plan, slot: Slot | None = None, generation: int | None = None) -> Seat:
        seat = Seat(plan, self.generation if generation is None else generation, slot, self._hire)
        self._admitted.add(seat)
        self._tasks.start_soon(self._tend, seat)
        return seat

    async def _tend(self, seat: Seat) -> None:
        try:
            await seat.tend(self._lose, self._ports.draw, self._ports.journal, self.bell)
        finally:
            self._admitted.discard(seat)

    def _dismiss(self, seat: Seat, cause: Cause = Cause.RELOAD) -> None:
        self.seats.remove(seat)
        seat.retire(cause, self.bell)

    def _hire(self, seat: Seat) -> Worker:
        self.newest += 1
        worker = Worker(self.newest, seat.generation, seat.plan, self._ports, self.bell)
        worker.slot = seat.slot.number if seat.slot else None
        self.workers.append(worker)
        self._tasks.start_soon(self._live, worker, name=f"worker-{worker.number}")
        return worker

    async def _live(self, worker: Worker) -> None:
        try:
            await worker.live()
        finally:
            self.workers.remove(worker)
            if worker.slot is not None:
                self.slot(worker.slot).last_ending = worker.ending
            self.bell.ring()

    def _lose(self, worker: Worker) -> None:
        """A worker was lost unasked: its slot counts it, and from now on the failover."""
        if worker.slot is None:
            return
        slot = self.slot(worker.slot)
        slot.restarts += 1
        if worker.served and slot.lost_at is None:
            slot.lost_at = current_time()

    def views(self) -> list[WorkerView]:
        """Every place with its worker, slots first, then those without a place: newcomers and draining ones."""
        seated = sorted(self.seats, key=lambda s: s.slot.number if s.slot else len(self.seats))
        placed = {seat.worker for seat in seated}
        return [_seat_view(seat) for seat in seated] + [_view(w, None) for w in self.workers if w not in placed]


def _seat_view(seat: Seat) -> WorkerView:
    slot = seat.slot
    view = replace(_view(seat.worker, slot.number if slot else None), failed=seat.failed)
    if slot:
        view = replace(view, restarts=slot.restarts, last_ending=slot.last_ending)
    if seat.resumes_at is not None:
        left = max(0.0, seat.resumes_at - current_time())
        view = replace(view, state=State.BACKOFF, backoff=left, pid=None, uptime=0.0)
    return view


def _view(worker: Worker, slot: int | None) -> WorkerView:
    state = State.DRAINING if worker.lost and worker.state is not State.GONE else worker.state or State.STARTING
    python = worker.plan.birth.python
    return WorkerView(slot, state, worker.number, worker.pid, worker.generation, worker.uptime, python=python)
