"""While a worker is silent, another accepts beside it: its users do not wait for the verdict on it."""

from __future__ import annotations

from collections.abc import Callable

from anyio import current_time

from ccproxy_supervisor.condition import Condition
from ccproxy_supervisor.core.model import Cause, Failover, Note
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.seat import Seat, Slot


class Relief:
    """*seats* are the pool's own; *admit* starts a newcomer of a plan and generation. *slots* are those being helped."""

    def __init__(
        self, seats: list[Seat], condition: Condition, ports: Ports, admit: Callable[[Plan, int], Seat]
    ) -> None:
        self._seats, self._condition, self._ports, self._admit = seats, condition, ports, admit
        self.slots: list[Slot] = []

    def needed(self) -> list[Seat]:
        """Who serves, is silent, and has nobody beside it yet."""
        return [seat for seat in self._seats if seat.serving and seat.worker.silent and seat.slot not in self.slots]

    async def lend(self, seat: Seat) -> None:
        """Let a standby, or else a newcomer, serve beside *seat*'s worker until that answers again, or is lost: then it
        takes the slot. It costs a worker that is merely busy nothing, for both serve."""
        slot, silent = seat.slot, seat.worker
        if slot is None:
            return
        self.slots.append(slot)
        restarts = slot.restarts
        standbys = [each for each in self._seats if not each.slot and each.warm]
        spare = min(standbys, key=lambda each: each.worker.number, default=None)
        other = spare or self._admit(seat.plan, seat.generation)

        def over() -> bool:
            return silent.lost or not silent.silent or seat.slot is not slot or other.worker.lost

        try:
            await self._condition.wait_for(lambda: other.warm or over())
            if not over():
                other.worker.activate(None)
                await self._condition.wait_for(lambda: other.serving or over())
            if other.serving and silent.silent_since is not None:
                seconds = current_time() - silent.silent_since
                silent.relieved = True
                fields = {"worker": other.worker.number, "for": silent.number, "slot": slot.number}
                self._ports.journal(Note("relief.serving", "warning", fields))
                self._ports.journal(Failover(slot.number, seconds))
            await self._condition.wait_for(over)
        finally:
            self.slots.remove(slot)
            if silent.lost and seat.slot is slot and other.serving and seat in self._seats:
                self._inherit(seat, other, slot, restarts)
            else:
                silent.relieved = False
                if other in self._seats:
                    self._seats.remove(other)
                other.retire(Cause.RESTART, self._condition, f"stood in for worker {silent.number}")
            self._condition.notify_all()

    def _inherit(self, seat: Seat, other: Seat, slot: Slot, restarts: int) -> None:
        """Give *other* the slot of *seat*, which becomes the place of the next standby, or goes when there is to be none."""
        seat.slot, other.slot, other.worker.slot = None, slot, slot.number
        if other not in self._seats:
            self._seats[self._seats.index(seat)] = other
            seat.retire(Cause.UNRESPONSIVE, self._condition)
            slot.restarts = restarts + 1  # whether or not the seat has counted it by now
