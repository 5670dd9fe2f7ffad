"""What the next supervisor needs to know of this one: its workers, its slots' histories, its last day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import anyio
import psutil
from anyio import to_thread

from ccproxy_supervisor.core.history import Day
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import Event, Transition
from ccproxy_supervisor.edge.state import Recorded, Saved, StateFile
from ccproxy_supervisor.edge.state import Slot as SavedSlot
from ccproxy_supervisor.seat import Slot

SEEN = 300.0  # seconds after which all is saved anew though nothing happened: what a crash may leave unrecorded


class Persistence:
    """A listener of the journal; *leftovers* of an earlier supervisor are handed on until they are gone."""

    def __init__(
        self, state: StateFile, slots: Callable[[], Iterable[Slot]], leftovers: Callable[[], tuple[Recorded, ...]],
        day: Callable[[], Day], lives: Callable[[], tuple[int, int]],
    ) -> None:  # fmt: skip
        self._state, self._slots, self._leftovers = state, slots, leftovers
        self._day, self._lives = day, lives
        self._workers: dict[int, Recorded] = {}
        self._changed = anyio.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Transition):
            self._changed.set()

    def enrol(self, number: int, process: psutil.Process | None, socket: str) -> None:
        if process is not None and (started := known(process.create_time, None)) is not None:
            self._workers[number] = Recorded(process.pid, started, socket)
        self._changed.set()

    def leave(self, number: int) -> None:
        self._workers.pop(number, None)
        self._changed.set()

    def close(self) -> None:
        """Write for the last time. Blocking; small."""
        self._state.write(replace(self._saved(), closed=True))

    async def run(self) -> None:
        """Write at every change, and now and then without one, off the event loop, for ever."""
        while True:
            with anyio.move_on_after(SEEN):
                await self._changed.wait()
            self._changed = anyio.Event()
            await to_thread.run_sync(self._state.write, self._saved())

    def _saved(self) -> Saved:
        slots = {slot.number: SavedSlot(slot.record, slot.restarts, slot.last_ending) for slot in self._slots()}
        workers = (*self._workers.values(), *self._leftovers())
        return Saved(slots, workers, self._day(), *self._lives(), closed=False)
