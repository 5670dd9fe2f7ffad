"""Whether an Ollama that answers also generates: judged from what waits, what its runners do, and a question or two.

The shapes are those its users report: everything but generation answers (ollama/ollama 1863, 8348); a runner that
hangs, shown as `Stopping...` for ever, while the server is well (7779, 14364, 17428, cured by ending that runner); one that
loads and never comes to an end (8470); one that dies again and again (14093, 14983); answers that end half-way (10119, 17118).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

QUIET = 20.0  # seconds without any completion going on before anybody looks closer
WATCHED = 8.0  # seconds over which runners are watched before they count as idle
IDLE = 0.02  # cores; a prefill on the GPU alone uses several times that
GROWTH = 4 << 20  # bytes; a runner that grew by more is loading
OVERDUE = 30.0  # seconds past its time before a model counts as one that does not unload
NOTHING = 45.0  # seconds for which runners that loaded nothing yet may do nothing
VOUCHED = 300.0  # seconds for which a good answer speaks for Ollama, whatever waits: it need not be waiting there
AGAIN = 60.0  # seconds between two questions that have a model loaded whose runner died
HALVES = 3  # answers in a row that ended before they were whole

#: How Ollama words the end of a runner.
_RUNNER = re.compile(r"runner|unexpectedly stopped|out of memory|insufficient memory|has terminated", re.IGNORECASE)


Key = tuple[int, float]

_SILENCE = re.compile(r"timed? ?out|no complete answer", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Flow:
    """Completions through the workers, of whatever model, as they are now.

    *waiting*: seconds for which none of those *in_flight* has gone on. *whole* and *halves* count, over the daemon's life,
    answers that came to their end and those that broke off.
    """

    in_flight: int = 0
    waiting: float = 0.0
    whole: int = 0
    halves: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that Ollama has in memory until *expires*, wall time; *context* is what it was loaded with."""

    name: str
    expires: float | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Runner:
    """A process that runs a model for Ollama: CPU seconds since its start and bytes of memory. *born* is wall time."""

    pid: int
    born: float
    cpu: float
    memory: int

    @property
    def key(self) -> Key:
        """What no other process ever shares."""
        return self.pid, self.born


@dataclass(frozen=True, slots=True)
class View:
    """Everything at one look. *runners* is None where they may not be looked at, or need not be."""

    now: float
    wall: float
    flow: Flow | None
    loaded: tuple[Loaded, ...]
    runners: tuple[Runner, ...] | None = None


class Wedge:
    """*stuck* says in words what is wrong, empty while nothing is; *confirmed* is when that was last seen to be so.

    Handed a view at every look, each answer, and what LiteLLM's checks found. *patience*: seconds for which runners that
    compute, or may not be looked at, are let do so without a word.
    """

    def __init__(self, patience: float) -> None:
        self.patience, self.stuck, self.confirmed = patience, "", 0.0
        self._blamed = ""  # the model whose runner dies, when that is what is wrong
        self._last: tuple[float, dict[Key, Runner]] | None = None  # the runners at the last look
        self._still = 0.0  # since when they do nothing
        self._suspected: float | None = None
        self._doubted = False  # a check of LiteLLM's met silence
        self._vouched = self._asked = float("-inf")
        self._failed: dict[str, str] = {}
        self._facts: dict[str, float | None] = {}
        self._mark, self._halved = Flow(), False

    def curious(self, flow: Flow | None, loaded: Collection[Loaded], wall: float) -> bool:
        """Whether the runners are worth a look now."""
        if self.stuck or self._doubted:
            return True
        if flow and flow.in_flight:
            return flow.waiting >= QUIET  # a model that is in use may be past its time
        return _late(loaded, wall)

    def look(self, view: View) -> tuple[str, ...]:
        """Take in a view; returns the models to be asked for a token now, empty when nobody is to be asked."""
        self._count(view)
        if self.stuck and not self._blamed and not self._halved and self._moves(view):
            self._clear()
        if not self.curious(view.flow, view.loaded, view.wall):
            self._last = self._suspected = None
            return ()
        self._suspected = view.now if self._suspected is None else self._suspected
        idle, names = self._idle(view), tuple(model.name for model in view.loaded)
        if self.stuck:
            return self._again(view, names)
        began = view.now - view.flow.waiting if view.flow and view.flow.in_flight else self._suspected
        if idle < WATCHED and view.now - began < self.patience:
            return ()
        if view.runners and not names and idle >= NOTHING:
            self._find("its runner loads nothing and does nothing", view.now)
        vouched = began <= self._vouched and view.now - self._vouched < VOUCHED
        return () if vouched else names

    def answered(self, name: str, now: float, *, ok: bool | None, detail: str = "") -> None:
        """Take in what *name* said to a question: *ok* None for silence, False for a failure of Ollama's own.

        A failure counts at the second time.
        """
        if ok:
            self._failed.pop(name, None)
            self._vouched, self._doubted = now, False
            if not self._failed and not self._halved and self._blamed in ("", name):
                self._clear()
        elif ok is None or name in self._failed or self.stuck:
            self._failed[name] = detail
            self._find(f"{name} answers nothing" if ok is None else f"{name} fails: {detail}", now)
        else:
            self._failed[name] = detail

    def checked(self, failing: Iterable[tuple[str, str, float | None]], now: float) -> None:
        """Take in the models that fail when LiteLLM asks for them, twice each: name, what it said, and when."""
        found = {name: (detail, at) for name, detail, at in failing}
        if self._blamed and self._blamed not in found:
            self._clear()
        for name, (detail, at) in found.items():
            if self._facts.get(name) == at:
                continue  # it is no news
            if _RUNNER.search(detail):
                self._blamed = self._blamed if self.stuck else name
                self._find(f"{name} fails: {detail}", now)
            self._doubted |= bool(_SILENCE.search(detail))
        self._facts = {name: at for name, (_, at) in found.items()}

    def helped(self) -> None:
        """Something was done: whoever is to be asked may be asked at once."""
        self._asked = float("-inf")

    def culprits(self, runners: Iterable[Runner]) -> tuple[Runner, ...]:
        """Of *runners* those that do nothing; all of them when each computes."""
        runners = tuple(runners)
        last = self._last[1] if self._last else {}
        idle = (one for one in runners if (old := last.get(one.key)) is None or one.cpu - old.cpu < IDLE)
        return tuple(idle) or runners

    def _find(self, words: str, now: float) -> None:
        self.stuck, self.confirmed = self.stuck or words, now

    def _clear(self) -> None:
        self.stuck = self._blamed = ""
        self._halved = self._doubted = False
        self._failed.clear()

    def _again(self, view: View, names: tuple[str, ...]) -> tuple[str, ...]:
        """Whom to ask whether it is still stuck; a runner that dies is not started over and over."""
        if not names and view.flow and view.flow.in_flight:
            self.confirmed = view.now
        if self._halved or (self._blamed and view.now - self._asked < AGAIN):
            return ()
        self._asked = view.now
        return (self._blamed,) if self._blamed else names

    def _moves(self, view: View) -> bool:
        """Whether something goes on again, or nothing is left that could."""
        if view.flow and view.flow.in_flight:
            return view.flow.waiting < QUIET
        return not view.loaded

    def _count(self, view: View) -> None:
        """Notice answers that break off, one after another with no whole one between."""
        if (flow := view.flow) is None:
            return
        broken = flow.halves - self._mark.halves
        if flow.whole != self._mark.whole or broken < 0:
            self._mark = flow
            if self._halved:
                self._clear()
        elif broken >= HALVES:
            self._halved, self._mark = self._halved or not self.stuck, flow
            self._find(f"its last {broken} answers broke off", view.now)

    def _idle(self, view: View) -> float:
        """Seconds for which no runner has come, gone, computed or grown; 0 where that cannot be seen."""
        if view.runners is None:
            self._last = None
            return 0.0
        runners = {runner.key: runner for runner in view.runners}
        if self._last is None or _worked(self._last[1], runners, view.now - self._last[0]):
            self._still = view.now
        self._last = view.now, runners
        return view.now - self._still


def _late(loaded: Iterable[Loaded], wall: float) -> bool:
    return any(model.expires is not None and wall - model.expires >= OVERDUE for model in loaded)


def _worked(then: Mapping[Key, Runner], now: Mapping[Key, Runner], seconds: float) -> bool:
    return then.keys() != now.keys() or any(
        now[key].cpu - old.cpu > IDLE * max(seconds, 1.0) or now[key].memory - old.memory > GROWTH
        for key, old in then.items()
    )
