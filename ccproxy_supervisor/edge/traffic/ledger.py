"""What went through the workers over the last year, in `run/usage.db`: rows of five minutes for a day, then of an hour.

SQLite, for what is taken from a worker's tally, and how far it was taken, is written in one step: so nothing is lost or
counted twice, whenever somebody is killed. Blocking; for a thread.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from ccproxy_supervisor.core.traffic import DAY, HOUR, Book, Key, Numbers, enter, slot

KEPT = 400 * DAY  # seconds
MOST = 200_000  # rows
PATIENCE = 5.0  # seconds for another process to end what it does with the file
SCHEMA = """
CREATE TABLE IF NOT EXISTS slots (at INTEGER, model TEXT, api TEXT, client TEXT, numbers TEXT,
    PRIMARY KEY (at, model, api, client)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (model TEXT, api TEXT, client TEXT, numbers TEXT,
    PRIMARY KEY (model, api, client)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS taken (token TEXT, model TEXT, api TEXT, client TEXT, numbers TEXT,
    PRIMARY KEY (token, model, api, client)) WITHOUT ROWID;
"""

Taken = dict[str, Book]


class Ledger:
    """The file at *path*. Its methods raise sqlite3.Error, and OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: sqlite3.Connection | None = None
        self._anew = False

    def read(self, now: float) -> tuple[Book, Taken, dict[int, Book]]:
        """What was counted in all, how far each tally was taken, and the slots of the last day."""
        database, recent = self._connected(), dict[int, Book]()
        totals = {key: numbers for _, key, numbers in _rows(database, "SELECT 0, * FROM totals")}
        taken: Taken = {}
        for token, key, numbers in _rows(database, "SELECT * FROM taken"):
            taken.setdefault(str(token), {})[key] = numbers
        for at, key, numbers in _rows(database, "SELECT * FROM slots WHERE at > ?", now - DAY):
            recent.setdefault(int(at), {})[key] = numbers
        return totals, taken, recent

    def since(self, at: float) -> Iterator[tuple[Key, Numbers]]:
        """What was counted since about *at*, slot by slot."""
        for _, key, numbers in _rows(self._connected(), "SELECT * FROM slots WHERE at > ?", at - HOUR):
            yield key, numbers

    def write(self, at: int, current: Book, totals: Book, taken: Taken, keys: Iterable[Key]) -> None:
        """Put down the rows *keys* of what is *current* in the slot *at* and of *totals*, and how far each was *taken*."""
        with self._connected() as database:
            for key in keys:
                database.execute("REPLACE INTO slots VALUES (?, ?, ?, ?, ?)", (at, *key, json.dumps(current[key])))
            for key in totals if self._anew else keys:
                database.execute("REPLACE INTO totals VALUES (?, ?, ?, ?)", (*key, json.dumps(totals[key])))
            for token, book in taken.items():
                for key, numbers in book.items():
                    words = (token, *key, json.dumps(numbers))
                    database.execute("REPLACE INTO taken VALUES (?, ?, ?, ?, ?)", words)
        self._anew = False

    def forget(self, tokens: Iterable[str]) -> None:
        """How far these were taken: their tallies are gone."""
        with self._connected() as database:
            database.executemany("DELETE FROM taken WHERE token = ?", [(token,) for token in tokens])

    def fold(self, now: float) -> None:
        """Add up slots that are older than a day to hours, and drop what is too old or too much."""
        with self._connected() as database:
            old = "FROM slots WHERE at < ? AND at % 3600"
            hours: dict[int, Book] = {}
            for at, key, numbers in list(_rows(database, f"SELECT * {old}", now - DAY - HOUR)):
                enter(hours.setdefault(slot(at, HOUR), {}), key, numbers)
            database.execute(f"DELETE {old}", (now - DAY - HOUR,))
            for hour, book in hours.items():
                for key, numbers in book.items():
                    self._add(database, hour, key, numbers)
            database.execute("DELETE FROM slots WHERE at < ?", (now - KEPT,))
            last = database.execute("SELECT at FROM slots ORDER BY at DESC LIMIT 1 OFFSET ?", (MOST,)).fetchone()
            if last:
                database.execute("DELETE FROM slots WHERE at <= ?", last)

    def _add(self, database: sqlite3.Connection, hour: int, key: Key, numbers: Mapping[str, int]) -> None:
        book: Book = {key: dict(numbers)}
        same = "SELECT * FROM slots WHERE at = ? AND model = ? AND api = ? AND client = ?"
        for _, _, more in _rows(database, same, hour, *key):
            enter(book, key, more)
        database.execute("REPLACE INTO slots VALUES (?, ?, ?, ?, ?)", (hour, *key, json.dumps(book[key])))

    def close(self) -> None:
        if self._open:
            with suppress(sqlite3.Error):
                self._open.close()
            self._open = None

    def begin_anew(self, stamp: int) -> Path:
        """Put a file aside that cannot be read; returns where it is."""
        self.close()
        aside = self.path.with_name(f"{self.path.name}.unreadable-{stamp}")
        self.path.replace(aside)
        with suppress(OSError):
            self.path.with_name(f"{self.path.name}-journal").unlink()
        return aside

    def _connected(self) -> sqlite3.Connection:
        """A file that somebody has removed under us is made anew."""
        there = self.path.exists()
        self._anew |= not there
        if not there:
            self.close()
        if self._open is None:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._open = sqlite3.connect(self.path, timeout=PATIENCE, check_same_thread=False)
            self._open.execute("PRAGMA synchronous = NORMAL")
            self._open.execute("PRAGMA cache_size = -256")  # KiB
            self._open.executescript(SCHEMA)
        return self._open


def _rows(database: sqlite3.Connection, query: str, *words: object) -> Iterator[tuple[int, Key, Numbers]]:
    with closing(database.execute(query, words)) as rows:
        for first, model, api, client, numbers in rows:
            with suppress(ValueError, AttributeError):
                yield first, Key(model, api, client), {str(n): int(c) for n, c in json.loads(numbers).items()}
