"""What the last 24 hours were like: the states of the service and of every slot, and the endings of workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ccproxy_supervisor.core.incident import in_words, sentence, utc
from ccproxy_supervisor.core.lines import spoken
from ccproxy_supervisor.core.model import Ending, Status, Transition

DAY = 86400.0
CHANGES, ENDINGS = 60, 20  # kept at most, of each track and in all: `/status` stays small in a crash loop
LINES, WIDTH, TOLD = 8, 300, 5  # of the last words of an unplanned ending, and for how many of these


@dataclass(frozen=True, slots=True)
class Past:
    """A worker's life that is over."""

    worker: int
    slot: int | None
    generation: int
    ending: Ending

    def row(self) -> dict[str, Any]:
        ending = self.ending
        row = {"at": utc(ending.at), "worker": self.worker, "slot": self.slot, "generation": self.generation}
        row |= {"cause": str(ending.cause), "planned": ending.cause.planned, "uptime": round(ending.uptime, 1)}
        row["told"] = sentence(row | {"exit": "" if ending.status is None else in_words(ending.status)})
        return row | ({"output": list(ending.output)} if ending.output else {})


@dataclass(frozen=True, slots=True)
class Day:
    """A history as it is saved: states with the wall time each began; *seen* is when the last of them still held."""

    seen: float = 0.0
    service: tuple[tuple[float, str], ...] = ()
    slots: Mapping[int, tuple[tuple[float, str], ...]] = field(default_factory=dict)
    endings: tuple[Past, ...] = ()


class Track:
    """States one after the other, each with the wall time it began."""

    def __init__(self, runs: Iterable[tuple[float, str]] = ()) -> None:
        self.runs = list(runs)

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

    def __init__(self, day: Day | None = None, now: float = 0.0) -> None:
        """Go on from *day*, saved by an earlier supervisor: all was down since if it was stopping, else nobody knows."""
        day, horizon = day or Day(), now - DAY
        tracks = {number: _believed(runs, horizon, now) for number, runs in day.slots.items()}
        self._service, self._slots = _believed(day.service, horizon, now), tracks
        self._endings = deque((past for past in day.endings if horizon <= past.ending.at <= now), ENDINGS)
        if self._service.runs and day.seen < now:
            since = "down" if self._service.runs[-1][1] == Status.STOPPING else "unknown"
            for track in (self._service, *tracks.values()):
                if track.runs and track.runs[-1][1] != "gone":
                    track.add(max(day.seen, horizon), since)

    def observe(self, at: float, status: str, slots: Mapping[int, str]) -> None:
        """The service is in *status* and its *slots* in these states."""
        self._service.add(at, status)
        for number, state in slots.items():
            self._slots.setdefault(number, Track()).add(at, state)
        for number in self._slots.keys() - slots.keys():
            self._slots[number].add(at, "gone")
            if self._slots[number].runs[-1][0] <= at - DAY:
                del self._slots[number]

    def ended(self, moved: Transition, ending: Ending) -> None:
        """A worker's life ended. The newest unplanned ones keep what the workers said last."""
        output = () if ending.cause.planned else tuple(spoken(line)[:WIDTH] for line in ending.output[-LINES:])
        past = Past(moved.number, moved.slot, moved.generation, replace(ending, output=output))
        self._endings.append(past)
        telling = [index for index, each in enumerate(self._endings) if each.ending.output]
        for index in telling[:-TOLD]:
            old = self._endings[index]
            self._endings[index] = replace(old, ending=replace(old.ending, output=()))

    def document(self, now: float) -> dict[str, Any]:
        horizon = now - DAY
        return {
            "service": self._service.since(horizon),
            "slots": {str(number): track.since(horizon) for number, track in sorted(self._slots.items())},
            "endings": [past.row() for past in self._endings if past.ending.at >= horizon],
        }

    def saved(self, now: float) -> Day:
        slots = {number: tuple(track.runs) for number, track in self._slots.items()}
        return Day(now, tuple(self._service.runs), slots, tuple(self._endings))


def _believed(runs: Iterable[tuple[float, str]], horizon: float, now: float) -> Track:
    """A clock may have been set back since."""
    return Track((max(at, horizon), state) for at, state in runs if at <= now)
