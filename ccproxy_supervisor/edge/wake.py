"""Sleep and wake of the machine: after one, a failed probe proves nothing for a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, ParamSpec, TypeVar

from ccproxy_supervisor.core.model import Journal, Note

SETTLE = 30.0  # seconds of grace: pages come back from swap, networks and Ollama return
SLACK = 2.0  # seconds by which a watch may come late before it counts as a pause
WORTH_A_LINE = 1.0  # seconds; below it clocks merely differ

P = ParamSpec("P")
T = TypeVar("T")


class Clocks(NamedTuple):
    """Seconds on three clocks: *awake* stops in sleep, *through* does not, *wall* can be set."""

    awake: float
    through: float
    wall: float


def read_clocks() -> Clocks:
    """Two clocks that differ by exactly the sleep: a wall clock set by NTP is never mistaken for one."""
    if sys.platform == "darwin":
        # clock_gettime(3): RAW runs on while the system is asleep; UPTIME_RAW is mach_absolute_time and does not.
        awake, through = time.clock_gettime(time.CLOCK_UPTIME_RAW), time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    else:
        awake, through = time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME)
    return Clocks(awake, through, time.time())


class Wake:
    """Asked at least *every* so many seconds; tells sleeps, pauses of this process and steps of the wall clock apart."""

    def __init__(
        self, journal: Journal, every: float, settle: float = SETTLE, clocks: Callable[[], Clocks] = read_clocks
    ) -> None:
        self._journal, self._every, self._settle, self._clocks = journal, every, settle, clocks
        self._last = clocks()
        self._until = 0.0

    def grace(self) -> bool:
        """Whether the machine or this process has just come back, so that a failed probe must not count."""
        self.observe()
        return self._last.awake < self._until

    def sparing(self, ask: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T | None]]:
        """Return *ask* as it is outside of a grace; in one there is no answer, and one that was waited for is none."""

        async def spared(*args: P.args, **more: P.kwargs) -> T | None:
            answer = None if self.grace() else await ask(*args, **more)
            return None if self.grace() else answer

        return spared

    def observe(self) -> float:
        """Return how many seconds the machine slept since the last look."""
        last, self._last = self._last, self._clocks()
        awake, through, wall = (now - then for now, then in zip(self._last, last, strict=True))
        slept, paused, stepped = through - awake, awake - self._every, wall - through
        if slept >= WORTH_A_LINE:
            self._begin_grace("host.woke", slept)
        if paused >= SLACK:
            self._begin_grace("supervisor.paused", paused)
        if abs(stepped) >= WORTH_A_LINE:
            self._journal(Note("clock.stepped", "warning", {"seconds": round(stepped, 1)}))
        return max(0.0, slept)

    def _begin_grace(self, event: str, seconds: float) -> None:
        self._until = self._last.awake + self._settle
        self._journal(Note(event, "warning", {"seconds": round(seconds, 1), "grace": self._settle}))
