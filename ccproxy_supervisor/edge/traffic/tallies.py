"""The tallies of all workers: looked at when somebody asks, taken into the ledger each minute, and when a worker is gone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import Event, Journal, Note, State, Transition
from ccproxy_supervisor.core.traffic import (
    HOUR,
    Book,
    Key,
    Recent,
    document,
    enter,
    final,
    grown,
    named,
    slot,
    wholes,
)
from ccproxy_supervisor.edge.traffic.ledger import Ledger, Taken
from ccproxy_supervisor.launcher import tally

EVERY = 60.0  # seconds
FILE = "usage.db"


@dataclass(frozen=True)
class Look:
    """All tallies at one moment: what is *fresh* since they were last *taken*, what is in flight (*live*), whose worker is *over*."""

    at: float
    fresh: Book
    taken: Taken
    live: Book
    over: tuple[tally.Book, ...]


class Shelf:
    """The tallies in the folder *run*, each held open until it was taken to its end."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._books: dict[str, tally.Book] = {}
        self._clients: set[str] = set()

    @property
    def tokens(self) -> set[str]:
        return {book.token for book in self._books.values()}

    def look(self, taken: Taken, at: float) -> Look:
        """Look at all, at the wall time *at*, given how far each was taken."""
        self._find()
        fresh, now, live, over = Book(), Taken(), Book(), list[tally.Book]()
        for book in self._books.values():
            ended = book.over()
            before = taken.get(book.token, {})
            nothing: Book = {}
            for key, numbers in known(partial(_rows, book), nothing).items():
                counts = final(numbers) if ended else numbers
                if growth := grown(counts, before.get(key, {})):
                    enter(fresh, named(key, self._clients), growth)
                    now.setdefault(book.token, {})[key] = {name: n for name, n in counts.items() if name != "in_flight"}
                if flying := counts.get("in_flight"):
                    enter(live, key, {"in_flight": flying})
            over += [book] if ended else []
        return Look(at, fresh, now, live, tuple(over))

    def know(self, book: Iterable[Key]) -> None:
        """Clients that were told apart before stay so."""
        self._clients |= {key.client for key in book}

    def drop(self, books: Iterable[tally.Book]) -> None:
        for book in books:
            with suppress(FileNotFoundError):
                os.unlink(book.path)
            self._books.pop(book.path, None)
            book.close()

    def close(self) -> None:
        while self._books:
            self._books.popitem()[1].close()

    def _find(self) -> None:
        with suppress(OSError):
            for path in map(str, self._run.glob("w*.tally")):
                if path not in self._books:
                    with suppress(OSError):
                        self._books[path] = tally.Book(path)


class Tallies:
    """A listener of the journal. What cannot be written stays in the tallies, and is tried again."""

    def __init__(self, run: Path, journal: Journal, wall: Callable[[], float]) -> None:
        self._shelf, self._ledger = Shelf(run), Ledger(run / FILE)
        self._journal, self._wall = journal, wall
        self._totals, self._taken, self._recent = Book(), Taken(), Recent()
        self._at, self._current, self._folded = 0, Book(), 0
        self._begun: Book = {}  # totals of earlier supervisors
        self._read = False
        self._trouble = ""
        self._wake = anyio.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Transition) and event.new is State.GONE:
            self._wake.set()

    def start(self) -> None:
        """Read what was counted before. Blocking, small."""
        self._safely(self._load)

    async def run(self) -> None:
        """Take for ever; while nothing was counted nothing is written."""
        while True:
            await self._take()
            with anyio.move_on_after(EVERY):
                await self._wake.wait()
            self._wake = anyio.Event()

    def close(self) -> None:
        """Take for the last time. Blocking, small."""
        look = self._look()
        if self._safely(lambda: self._put(look)):
            self._adopt(look)
        self._ledger.close()
        self._shelf.close()

    def totals(self) -> tuple[Book, Book]:
        """All that was ever counted, and what is in flight, by row."""
        look = self._look()
        return _sum(self._totals, look.fresh), look.live

    def document(self) -> dict[str, Any]:
        look = self._look()
        return document(self._recent, look.fresh, look.live, look.at)

    def wholes(self, models: Iterable[str]) -> tuple[int, int]:
        """Of *models*, since our start: answers that came to their end, and those that broke off."""
        names = set(models)
        now, before = wholes(self.totals()[0], names), wholes(self._begun, names)
        return now[0] - before[0], now[1] - before[1]

    def _look(self) -> Look:
        return self._shelf.look(self._taken, self._wall())

    async def _take(self) -> None:
        look = self._look()
        if await to_thread.run_sync(self._safely, lambda: self._put(look)):
            self._adopt(look)

    def _safely(self, act: Callable[[], object]) -> bool:
        """Whether *act* went well; a trouble is told once."""
        try:
            act()
        except (sqlite3.Error, OSError) as error:
            if type(error) is sqlite3.DatabaseError:  # it is no database; others are of the disk, or of the moment
                known(self._begin_anew, None)
            reason, before = str(error), self._trouble
            self._trouble = reason
            if reason != before:
                self._note("usage.unsaved", reason)
            return False
        self._trouble = ""
        return True

    def _begin_anew(self) -> None:
        aside = self._ledger.begin_anew(int(self._wall()))
        self._note("usage.set_aside", f"it cannot be read, and was put aside as {aside.name}")

    def _note(self, event: str, reason: str) -> None:
        self._journal(Note(event, "warning", {"file": str(self._ledger.path), "reason": reason}))

    def _load(self) -> None:
        now = self._wall()
        totals, taken, recent = self._ledger.read(now)
        self._shelf.know(totals)
        for at, book in sorted(recent.items()):
            self._recent.enter(at, book)
        self._at, self._current = slot(now), recent.get(slot(now), {})
        self._totals, self._taken, self._begun, self._read = totals, taken, totals, True

    def _put(self, look: Look) -> None:
        """Write what a look brought. All numbers are whole ones, so it may be done twice."""
        if not self._read:
            self._load()
            raise BlockingIOError("it was not read before")  # look again
        at = slot(look.at)
        current = _sum(self._current if at == self._at else {}, look.fresh)
        if look.fresh:
            self._ledger.write(at, current, _sum(self._totals, look.fresh), {**self._taken, **look.taken}, look.fresh)
        forgotten = self._taken.keys() - self._shelf.tokens
        self._shelf.drop(look.over)
        forgotten |= {book.token for book in look.over}
        if forgotten:
            self._ledger.forget(forgotten)
        if self._folded != (hour := slot(look.at, HOUR)) and look.fresh:
            self._ledger.fold(look.at)
            self._folded = hour

    def _adopt(self, look: Look) -> None:
        at = slot(look.at)
        self._current = _sum(self._current if at == self._at else {}, look.fresh)
        self._at, self._totals = at, _sum(self._totals, look.fresh)
        self._taken = {
            token: {**self._taken.get(token, {}), **look.taken.get(token, {})}
            for token in {*self._taken, *look.taken} & self._shelf.tokens
        }
        self._recent.enter(look.at, look.fresh)


def usage(run: Path, at: float) -> Book:
    """What was counted since about *at*, also while no daemon runs. Raises sqlite3.Error and OSError."""
    shelf, ledger, found = Shelf(run), Ledger(run / FILE), Book()
    taken: Taken = {}
    try:
        if ledger.path.exists():
            for key, numbers in ledger.since(at):
                enter(found, key, numbers)
            _, taken, _ = ledger.read(at)
        return _sum(found, shelf.look(taken, at).fresh)
    finally:
        ledger.close()
        shelf.close()


def _sum(one: Book, other: Book) -> Book:
    found: Book = {key: dict(numbers) for key, numbers in one.items()}
    for key, numbers in other.items():
        enter(found, key, numbers)
    return found


def _rows(book: tally.Book) -> Book:
    return {Key(*key): numbers for key, numbers in book.read()}
