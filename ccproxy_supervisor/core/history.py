"""What the last 24 hours were like: the states of the service and of every slot, and the endings of workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ccproxy_supervisor.core.incident import in_words, sentence, utc
from ccproxy_supervisor.core.lines import spoken
from ccproxy_supervisor.core.model import Ending, Transition

DAY = 86400.0
CHANGES, ENDINGS = 200, 100  # kept at most, of each track and in all: `/status` stays small in a crash loop
LINES, WIDTH, TOLD = 8, 300, 5  # of the last words of an unplanned ending, and for how many of these


class Track:
    """States one after the other, each with the wall time it began."""

    def __init__(self) -> None:
        self.runs: list[tuple[float, str]] = []

    def add(self, at: float, state: str) -> None:
        """*state* holds from *at* on. What ended a day ago is forgotten, and if there is too much the shortest."""
        if self.runs and self.runs[-1][1] == state:
            return
        self.runs.append((max(at, self.runs[-1][0]) if self.runs else at, state))
        while len(self.runs) > 1 and self.runs[1][0] <= at - DAY:
            del self.runs[0]
        if len(self.runs) > CHANGES:
            self._forget_shortest()

    def _forget_shortest(self) -> None:
        inner = range(1, len(self.runs) - 1)
        at = min(inner, key=lambda i: self.runs[i + 1][0] - self.runs[i][0])
        del self.runs[at]
        if self.runs[at - 1][1] == self.runs[at][1]:
            del self.runs[at]

    def since(self, horizon: float) -> list[dict[str, str]]:
        """What began after *horizon*, and what held then."""
        began = max((index for index, (at, _) in enumerate(self.runs) if at <= horizon), default=0)
        return [{"at": _fine(max(at, horizon)), "state": state} for at, state in self.runs[began:]]


def _fine(at: float) -> str:
    """With milliseconds: a failover takes less than a second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class History:
    """Fed with every change; answers with the last day of it."""

    def __init__(self) -> None:
        self._service = Track()
        self._slots: dict[int, Track] = {}
        self._endings: deque[dict[str, Any]] = deque(maxlen=ENDINGS)

    def observe(self, at: float, status: str, slots: Mapping[int, str]) -> None:
        """The service is in *status* and its *slots* in these states."""
        self._service.add(at, status)
        for number, state in slots.items():
            self._slots.setdefault(number, Track()).add(at, state)
        for number in self._slots.keys() - slots.keys():
            self._slots[number].add(at, "gone")

    def ended(self, moved: Transition, ending: Ending) -> None:
        """A worker's life ended. The newest unplanned ones keep what the workers said last."""
        row = {"at": utc(ending.at), "worker": moved.number, "slot": moved.slot, "generation": moved.generation}
        row |= {"cause": str(ending.cause), "planned": ending.cause.planned, "uptime": round(ending.uptime, 1)}
        row["told"] = sentence(row | {"exit": "" if ending.status is None else in_words(ending.status)})
        if not ending.cause.planned:
            row["output"] = [spoken(line)[:WIDTH] for line in ending.output[-LINES:]]
        self._endings.append(row)
        for old in [each for each in self._endings if "output" in each][:-TOLD]:
            del old["output"]

    def document(self, now: float) -> dict[str, Any]:
        horizon = now - DAY
        return {
            "service": self._service.since(horizon),
            "slots": {str(number): track.since(horizon) for number, track in sorted(self._slots.items())},
            "endings": [row for row in self._endings if row["at"] >= utc(horizon)],
        }
