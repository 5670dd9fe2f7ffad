"""One worker after another in the same seat, make before break: by order, for a limit it passed, or in doubt of it."""

from __future__ import annotations

from collections.abc import Callable

from anyio import sleep

from ccproxy_supervisor.condition import Condition
from ccproxy_supervisor.core.doubt import DEAF, Doubt
from ccproxy_supervisor.core.lines import telling
from ccproxy_supervisor.core.model import Cause, Note
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.seat import Seat, Slot
from ccproxy_supervisor.trial import excused, unheard
from ccproxy_supervisor.worker import Worker

REPRIEVE = 60.0  # seconds, at least, that a worker is not doubted again


class Succession:
    """*seats* and *workers* are the pool's own; *admit* starts a newcomer of a plan and generation."""

    def __init__(
        self,
        seats: list[Seat],
        workers: list[Worker],
        condition: Condition,
        ports: Ports,
        admit: Callable[[Plan, int], Seat],
    ) -> None:
        self._seats, self._workers, self._condition, self._ports, self._admit = seats, workers, condition, ports, admit
        self.handing_over: Slot | None = None

    async def replace(self, old: Seat, plan: Plan, generation: int, cause: Cause) -> str | None:
        """Prove a newcomer, let it serve, then drain the old one. Returns why not, or None."""
        new = self._admit(plan, generation)
        first = new.worker
        try:
            await self._condition.wait_for(lambda: new.settled)
            if new.warm and (lacking := self.lacking(first)):
                return lacking
            if new.warm and old in self._seats:
                await self._hand_over(old, new)
            if new not in self._seats:
                new.retire(cause, self._condition)
                return await self.reason(first)
        finally:
            (old if new in self._seats else new).retire(cause, self._condition)
        leaving = old.worker  # one drains at a time: each costs its memory until it is gone
        await self._condition.wait_for(lambda: leaving not in self._workers)
        return None

    async def ease(self, seat: Seat) -> None:
        """Replace *seat*'s worker if it is in doubt and another does better, or else for the limit it passed."""
        suspect, settings = seat.worker, seat.plan.settings
        if doubt := suspect.doubt:
            fields = {"worker": suspect.number, "kind": doubt.kind}
            self._ports.journal(Note("doubt.raised", "warning", fields | {"detail": doubt.detail}))
            reason = await self._relieve(seat, doubt)
            suspect.acquit(max(REPRIEVE, settings.health.stalled or 0.0))
            word, level = ("doubt.dismissed", "info") if reason else ("doubt.confirmed", "error")
            self._ports.journal(Note(word, level, fields | {"reason": reason or doubt.detail}))
        elif (limit := suspect.outgrown) and (reason := await self.replace(seat, seat.plan, seat.generation, limit)):
            self._ports.journal(Note("replacement.failed", "error", {"reason": reason}))
            await sleep(settings.restart.longest_delay)

    async def _relieve(self, old: Seat, doubt: Doubt) -> str | None:
        """Let a standby, or else a newcomer, take *old*'s seat if it does better. Returns why not, or None."""
        standbys = [seat for seat in self._seats if not seat.slot and seat.warm]
        spare = min(standbys, key=lambda seat: seat.worker.number, default=None)
        new = spare or self._admit(old.plan, old.generation)
        suspect, other = old.worker, new.worker
        try:
            await self._condition.wait_for(lambda: new.settled)
            if not new.warm:
                new.retire(Cause.RESTART, self._condition)
                return await self.reason(other)
            return await excused(suspect, other, self._ports) or await self._try(old, new, doubt)
        finally:
            if old not in self._seats:
                old.retire(Cause.UNRESPONSIVE, self._condition, doubt.detail)
            elif new not in self._seats:
                new.retire(Cause.RESTART, self._condition)

    async def _try(self, old: Seat, new: Seat, doubt: Doubt) -> str | None:
        if old not in self._seats or not old.serving or not new.warm:
            return "its place was given up meanwhile"
        if new in self._seats:
            self._seats.remove(new)  # the pool starts another standby once this one serves
        await self._hand_over(old, new)
        if new not in self._seats:
            return "the other one did not come to serve"
        if doubt.kind == DEAF and new.slot and (wrong := await unheard(new.worker, self._ports)):
            if new in self._seats and old.serving:
                self._exchange(new, old)
            return wrong
        if new.slot:
            new.slot.restarts += 1
        return None

    async def _hand_over(self, old: Seat, new: Seat) -> None:
        """Give *new* the seat of *old*, and take it back unless it comes to serve."""
        self._exchange(old, new)
        if new.slot is None:
            return
        self.handing_over = new.slot
        new.activate()
        try:
            await self._condition.wait_for(lambda: new.serving or new.failed or new.retired is not None)
        finally:
            if not new.serving:
                self._exchange(new, old)
            self.handing_over = None
            self._condition.notify_all()

    def _exchange(self, old: Seat, new: Seat) -> None:
        self._seats[self._seats.index(old)] = new
        new.slot, old.slot = old.slot, None

    def lacking(self, new: Worker) -> str | None:
        """Say which models *new* does not serve that its config names and that those of another birth have not lost yet."""
        others = [worker for worker in self._workers if worker.proven and worker.plan.birth != new.plan.birth]
        lost = [f"{name} ({why})" for name, why in new.dropped.items() if any(name not in o.dropped for o in others)]
        return f"LiteLLM dropped {', '.join(lost)}" if lost else None

    async def reason(self, worker: Worker) -> str:
        """Why *worker* did not make it, with its last line."""
        if not worker.lost:
            return "its place was given up meanwhile"
        await self._condition.wait_for(lambda: worker.ending is not None)
        ending = worker.ending
        assert ending is not None
        what = (
            ending.detail
            or f"worker {worker.number} ended before it was ready ({ending.cause}, status {ending.status})"
        )
        return f"{what}: {telling(ending.output)}" if ending.output else what
