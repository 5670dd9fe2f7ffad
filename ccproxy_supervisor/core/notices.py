"""Whom it concerns is told once when an incident begins and once when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from ccproxy_supervisor.core.incident import spell

GATHER = 3.0  # seconds in which what belongs together comes together
LASTING = 8.0  # seconds that what may pass by itself has to last
CALM, LONGEST_CALM = (
    5.0,
    300.0,
)  # seconds without trouble until an incident is over; twice as long each time it came back
MEMORY = 3600.0  # seconds after which it is the first of its kind again
#: What follows from what, or is the same once more: a model fails because Ollama is down; a crash loop is one incident.
CAUSES = {
    "model": ("ollama", "service", "worker"), "missing": ("ollama",), "service": ("worker", "service"),
    "worker": ("worker", "service"), "log": ("log",), "daemon": ("daemon",),
}  # fmt: skip
NEAR = {"model": 600.0}  # seconds, instead of `GATHER`: an upstream is found dead model by model


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not as it should be. The first word of *key* is its kind; *grave*: nobody is served."""

    key: str
    words: str
    patience: float = 0.0
    grave: bool = False

    @property
    def kind(self) -> str:
        return self.key.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person is told. *event*: `began`, `over`, `test`, or `digest` of a quiet night; *incident* numbers them."""

    event: str
    incident: int
    title: str
    lines: tuple[str, ...] = ()
    grave: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(slots=True)
class _Incident:
    number: int
    since: float
    troubles: dict[str, Trouble]
    calm: float
    quiet_since: float  # since when none of them is left; inf: there are some
    latest: float  # when the last of them began

    def explains(self, trouble: Trouble, since: float) -> bool:
        """Whether *trouble* began with it, or follows from it. That nobody is served any more is told in any case."""
        if trouble.grave and not any(each.grave for each in self.troubles.values()):
            return False
        kinds = {each.kind for each in self.troubles.values()}
        if trouble.kind in kinds and since - self.latest <= NEAR.get(trouble.kind, GATHER):
            return True
        return since - self.since <= GATHER or not kinds.isdisjoint(CAUSES.get(trouble.kind, ()))


@dataclass(slots=True)
class Notices:
    """The judge. Times are seconds of any clock that does not jump."""

    _waiting: dict[str, tuple[float, Trouble]] = field(default_factory=dict)  # not told yet, by key: since when
    _open: list[_Incident] = field(default_factory=list)
    _past: dict[str, tuple[int, float]] = field(default_factory=dict)  # by kind: how often lately, and when last
    _count: int = 0

    def happened(self, now: float, trouble: Trouble) -> None:
        """Something is worth telling, even if it is over by now."""
        self._note(now, trouble)

    def look(self, now: float, troubles: Iterable[Trouble]) -> list[Notice]:
        """Given all that is wrong *now*, return what to tell."""
        current = {trouble.key: trouble for trouble in troubles}
        for key in [key for key, (_, waiting) in self._waiting.items() if waiting.patience and key not in current]:
            del self._waiting[key]
        for trouble in current.values():
            self._note(now, trouble)
        began = [*self._begin(now)]
        for incident in self._open:
            there = not current.keys().isdisjoint(incident.troubles)
            incident.quiet_since = inf if there else min(incident.quiet_since, now)
        return [*began, *self._end(now)]

    def due(self, now: float) -> float:
        """Seconds until there may be something to tell without anything happening."""
        ripe = [since + max(GATHER, trouble.patience) for since, trouble in self._waiting.values()]
        calm = [incident.quiet_since + incident.calm for incident in self._open]
        return max(0.0, min([*ripe, *calm], default=inf) - now)

    def _note(self, now: float, trouble: Trouble) -> None:
        known = next((each for each in self._open if trouble.key in each.troubles), None)
        if known:
            known.quiet_since = now
        elif trouble.key not in self._waiting:
            self._waiting[trouble.key] = now, trouble
        elif not trouble.patience:  # what happened says more than what lasts
            self._waiting[trouble.key] = self._waiting[trouble.key][0], trouble

    def _begin(self, now: float) -> Iterator[Notice]:
        ripe = {
            key: (since, each)
            for key, (since, each) in self._waiting.items()
            if now - since >= max(GATHER, each.patience)
        }
        for key, (since, trouble) in list(ripe.items()):
            del self._waiting[key]
            for incident in [each for each in self._open if each.explains(trouble, since)][:1]:
                incident.troubles[key], incident.latest = trouble, since
                del ripe[key]
        if ripe:
            since, troubles = min(since for since, _ in ripe.values()), {key: each for key, (_, each) in ripe.items()}
            self._count += 1
            self._open.append(_Incident(self._count, since, troubles, self._calm(now, troubles), now, now))
            first, *others = sorted(troubles.values(), key=lambda each: not each.grave)
            lines = tuple(each.words for each in others)
            yield Notice("began", self._count, first.words, lines, first.grave)

    def _end(self, now: float) -> Iterator[Notice]:
        for incident in [each for each in self._open if now - each.quiet_since >= each.calm]:
            self._open.remove(incident)
            for kind in {trouble.kind for trouble in incident.troubles.values()}:
                self._past[kind] = self._often(kind, now) + 1, now
            took = spell(max(0.0, incident.quiet_since - incident.since))
            words = tuple(trouble.words for trouble in incident.troubles.values())
            yield Notice("over", incident.number, f"over after {took}: {words[0]}", words[1:])

    def _often(self, kind: str, now: float) -> int:
        count, last = self._past.get(kind, (0, -inf))
        return count if now - last < MEMORY else 0

    def _calm(self, now: float, troubles: Mapping[str, Trouble]) -> float:
        often = max(self._often(trouble.kind, now) for trouble in troubles.values())
        return min(LONGEST_CALM, CALM * 2.0**often)
