"""What a worker counts, in a file that outlives it: whoever reads it knows what a killed worker had counted.

A head says what the numbers are; rows follow, one for each model, API and client. Each number is stored at once, so a reader
needs no lock. The worker holds the file's lock for as long as it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import secrets
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

HEAD = 1 << 14  # bytes, a page of every machine
ROW, KEY = 1280, 256  # bytes of a row, and of these its key
ROWS = 512
OTHER = "other"
BOUNDS = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    float("inf"),
)
RESULTS = ("ok", "client_error", "server_error", "broken", "aborted", "refused")
TIMES = ("first_byte", "first_token", "duration", "queued")
#: *spoken* are output tokens of answers whose *speaking* took so many microseconds.
FIELDS = (
    *("in_flight", *RESULTS, "retried", "input", "output", "cached", "spoken", "speaking"),
    *(f"{name} {bound:g}" for name in TIMES for bound in BOUNDS),
    *(f"{name} sum" for name in TIMES),
)
PLACE = {name: place for place, name in enumerate(FIELDS)}
MICRO = 1_000_000


class Row:
    """The numbers of one model, API and client."""

    __slots__ = ("_words",)

    def __init__(self, words: Any) -> None:
        self._words = words

    def add(self, field: str, by: int = 1) -> None:
        self._words[PLACE[field]] += by

    def observe(self, name: str, seconds: float) -> None:
        self._words[PLACE[f"{name} {BOUNDS[0]:g}"] + bisect_left(BOUNDS, seconds)] += 1
        self._words[PLACE[f"{name} sum"]] += max(0, round(seconds * MICRO))


class Tally:
    """The rows of a worker, *number*, in the folder *folder*; without one, or where that fails, they are for nobody."""

    def __init__(self, folder: str | None, number: int = 0) -> None:
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._fd = -1
        self._memory = self._in_file(folder, number) or mmap.mmap(-1, HEAD + ROW * ROWS)

    def row(self, model: str, api: str, client: str) -> Row:
        """Return the row of these, or of `other` ones where there is no room."""
        found = self._rows.get((model, api, client))
        return found or self._new(model, api, client) or self._other(api)

    def _other(self, api: str) -> Row:
        key = (OTHER, api, OTHER)
        found = self._rows.get(key)
        if found is None:  # the last rows are left for these
            found = self._rows[key] = self._put(key)
        return found

    def _new(self, model: str, api: str, client: str) -> Row | None:
        key = (model, api, client)
        if len(self._rows) >= ROWS - 8 or len(json.dumps(key)) > KEY:
            return None
        found = self._rows[key] = self._put(key)
        return found

    def _put(self, key: tuple[str, str, str]) -> Row:
        start, spelled = HEAD + ROW * len(self._rows), json.dumps(key).encode()
        self._memory[start : start + len(spelled)] = spelled
        return Row(memoryview(self._memory)[start + KEY : start + ROW].cast("Q"))

    def _in_file(self, folder: str | None, number: int) -> mmap.mmap | None:
        """Take the disk's room now: a full one would later end whoever writes to the memory."""
        if not folder:
            return None
        token = secrets.token_hex(8)
        name = f"w{number}-{token}.tally"
        draft = os.path.join(folder, f".{name}")  # it is nobody's before it is locked
        head = json.dumps({"token": token, "number": number, "fields": FIELDS, "row": ROW, "key": KEY, "rows": ROWS})
        try:
            self._fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(self._fd, bytes(HEAD + ROW * ROWS), 0)
            os.pwrite(self._fd, head.encode() + b"\n", 0)
            memory = mmap.mmap(self._fd, HEAD + ROW * ROWS)
            os.rename(draft, os.path.join(folder, name))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            return None
        return memory


class Book:
    """A worker's tally as others read it. Raises OSError, also for a file that is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            head = json.loads(os.pread(self._fd, HEAD, 0).partition(b"\n")[0])
            self.token, self._fields = str(head["token"]), tuple(map(str, head["fields"]))
            self._row, self._key, self._rows = (int(head[name]) for name in ("row", "key", "rows"))
            room = min(self._row, 1 << 16) - self._key
            if not (self._key > 0 < self._rows <= 1 << 12 and 0 < 8 * len(self._fields) <= room):
                raise ValueError("its rows make no sense")
        except (ValueError, LookupError, TypeError) as error:
            self.close()
            raise OSError(f"{path} is no tally: {error}") from error
        except OSError:
            self.close()
            raise

    def over(self) -> bool:
        """Whether its worker is gone."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return True

    def read(self) -> Iterator[tuple[tuple[str, str, str], dict[str, int]]]:
        """Each row: model, API and client, and what is not 0."""
        for start in range(HEAD, HEAD + self._row * self._rows, self._row):
            data = os.pread(self._fd, self._row, start)
            spelled = data[: self._key].rstrip(b"\0")
            if len(data) < self._row or not spelled:
                return
            try:
                model, api, client = map(str, json.loads(spelled))
            except ValueError:  # its worker was killed in the middle of it
                continue
            words = memoryview(data)[self._key : self._key + 8 * len(self._fields)].cast("Q")
            yield (model, api, client), {name: n for name, n in zip(self._fields, words, strict=True) if n}

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
