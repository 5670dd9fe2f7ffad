"""A place kept occupied: one worker after another, with backoff between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from anyio import current_time, move_on_after

from ccproxy_supervisor.condition import Condition
from ccproxy_supervisor.core.model import Cause, Ending, Journal, State, Transition
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.policy import Record, backoff
from ccproxy_supervisor.core.status import WorkerView
from ccproxy_supervisor.worker import Worker


@dataclass
class Slot:
    """A number among the serving workers; it outlives them and remembers."""

    number: int
    record: Record = field(default_factory=Record)  # of the place that has it now, or had it in an earlier supervisor
    restarts: int = 0
    last_ending: Ending | None = None
    lost_at: float | None = None  # heart's clock; set while its worker is lost unasked and no other serves


class Seat:
    """Holds a worker, and a slot while that worker serves or is meant to; without one it keeps a standby."""

    def __init__(
        self, plan: Plan, generation: int, slot: Slot | None, hire: Callable[[Seat], Worker],
        worker: Worker | None = None,
    ) -> None:  # fmt: skip
        """*worker* has outlived its supervisor; the next one here is of the plan that is in force then."""
        self.plan, self.generation, self.slot, self._hire = plan, generation, slot, hire
        self.record = slot.record if slot else Record()
        self.resumes_at: float | None = None  # while in backoff, heart's clock
        self.failed = False  # lost a worker unasked, at least once
        self.retired: Cause | None = None
        self.successor: Plan | None = None
        self.worker = worker or hire(self)

    @property
    def serving(self) -> bool:
        return self.worker.serving

    @property
    def warm(self) -> bool:
        return self.worker.warm

    @property
    def settled(self) -> bool:
        """Proven once, known to have failed, or given up."""
        return self.failed or self.retired is not None or self.warm or self.serving

    def adopt(self, plan: Plan) -> None:
        """Take over what a running worker need not be replaced for."""
        self.plan = plan
        self.worker.adopt(plan)

    def activate(self) -> None:
        """Let the worker serve in the slot."""
        if self.slot:
            self.worker.activate(self.slot.number)

    def retire(self, cause: Cause, condition: Condition, detail: str = "") -> None:
        self.retired = self.retired or cause
        self.worker.retire(cause, detail)
        condition.notify_all()

    async def tend(
        self, lose: Callable[[Worker], None], draw: Callable[[], float], journal: Journal, condition: Condition
    ) -> None:
        """Keep a worker here until retired, for ever if need be."""
        while True:
            worker = self.worker
            await condition.wait_for(lambda w=worker: w.lost)  # type: ignore[misc]
            if self.retired is not None:
                return
            self.failed = True
            lose(worker)
            delay, self.record = backoff(self.plan.settings.restart, self.record, worker.well, draw())
            if self.slot:
                self.slot.record = self.record
            number = self.slot.number if self.slot else None
            journal(Transition(worker.number, number, self.generation, State.GONE, State.BACKOFF, delay=delay))
            self.resumes_at = current_time() + delay
            condition.notify_all()
            with move_on_after(delay):
                await condition.wait_for(lambda: self.retired is not None)
            self.resumes_at = None
            if self.retired is not None:
                return
            self.plan, self.successor = self.successor or self.plan, None
            self.worker = self._hire(self)

    def view(self) -> WorkerView:
        slot = self.slot
        seen = replace(view(self.worker, slot.number if slot else None), failed=self.failed)
        if slot:
            seen = replace(seen, restarts=slot.restarts, last_ending=slot.last_ending)
        if self.resumes_at is not None:
            left = max(0.0, self.resumes_at - current_time())
            seen = replace(seen, state=State.BACKOFF, backoff=left, pid=None, uptime=0.0)
        return seen


def view(worker: Worker, slot: int | None) -> WorkerView:
    state = State.DRAINING if worker.lost and worker.state is not State.GONE else worker.state or State.STARTING
    return WorkerView(
        slot, state, worker.number, worker.pid, worker.generation, worker.uptime,
        python=worker.plan.birth.python, adopted=worker.survivor is not None, dropped=tuple(worker.dropped.items()),
    )  # fmt: skip
