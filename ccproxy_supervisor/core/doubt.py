"""Whether a worker that answers its probes serves its users: the first kind of evidence, from what it says of its traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ccproxy_supervisor.core.model import Traffic

DEAF, STALLED = "deaf", "stalled"


class Limits(Protocol):
    """The `health` settings this judgement needs; in seconds."""

    @property
    def failures(self) -> int: ...
    @property
    def stalled(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Doubt:
    """A suspicion, not yet a reason to end a worker. *kind*: `DEAF` takes no connection, `STALLED` answers none."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Path:
    """The way through one worker as it was at the last looks. *ignored* counts those in a row at which connections waited
    and it had taken none since the one before; *waited* is seconds between the first and the last of them."""

    traffic: Traffic | None = None
    now: float = 0.0
    ignored: int = 0
    waited: float = 0.0

    def after(self, traffic: Traffic, now: float, *, queued: bool) -> Path:
        ignored = queued and self.traffic is not None and traffic.taken == self.traffic.taken
        if not ignored:
            return Path(traffic, now)
        return Path(traffic, now, self.ignored + 1, self.waited + (now - self.now if self.ignored else 0.0))

    def doubt(self, limits: Limits) -> Doubt | None:
        """Say what speaks against the worker. As many looks as condemn a silent one, a second apart at least."""
        if self.ignored >= limits.failures and self.waited >= limits.failures - 1:
            return Doubt(DEAF, f"connections wait and it has taken none for {self.waited:.0f} s")
        if self.traffic and limits.stalled is not None and self.traffic.waiting >= limits.stalled:
            inside, waiting = self.traffic.inside, self.traffic.waiting
            return Doubt(
                STALLED, f"no completion in it has gone on for {waiting:.0f} s, and {inside} wait{'s' * (inside == 1)}"
            )
        return None
