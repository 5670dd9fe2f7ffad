"""What went through the workers: numbers by model, API and client, added up, and what a person reads from them.

Numbers are whole: of times there are the counts of their buckets, `first_token 0.5`, and the sum in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MICRO = 1_000_000
RESULTS = ("ok", "client_error", "server_error", "broken", "aborted", "refused", "lost")
ERRORS = ("client_error", "server_error", "broken", "refused", "lost")
KINDS = ("input", "output", "cached")
OTHER = "other"
HOUR, DAY, SLOT = 3600, 86400, 300  # seconds
CLIENTS = 64  # told apart in all

Numbers = dict[str, int]


class Key(NamedTuple):
    model: str
    api: str
    client: str


Book = dict[Key, Numbers]


def add(to: Numbers, more: Mapping[str, int]) -> None:
    for name, number in more.items():
        to[name] = to.get(name, 0) + number


def enter(book: Book, key: Key, more: Mapping[str, int]) -> None:
    """Add *more* to a row of *book*."""
    add(book.setdefault(key, {}), more)


def grown(now: Mapping[str, int], before: Mapping[str, int]) -> Numbers:
    """What has come to what was there *before*; how many are in flight is no matter of growth."""
    return {name: n - before.get(name, 0) for name, n in now.items() if name != "in_flight" and n > before.get(name, 0)}


def final(numbers: Mapping[str, int]) -> Numbers:
    """The last numbers of a worker that is gone: what was in flight is lost with it."""
    counts = dict(numbers)
    if lost := _in_flight(numbers):
        counts["lost"] = counts.get("lost", 0) + lost
    counts.pop("in_flight", None)
    return counts


def _in_flight(numbers: Mapping[str, int]) -> int:
    """What a worker that was killed between two steps left here may be one too few."""
    count = numbers.get("in_flight", 0)
    return count if count < 1 << 32 else 0


def named(key: Key, known: set[str]) -> Key:
    """*key*, of a client that is one of the *known* or still finds room among them."""
    if key.client not in known and len(known) >= CLIENTS:
        return key._replace(client=OTHER)
    known.add(key.client)
    return key


def by(book: Mapping[Key, Mapping[str, int]], field: str) -> dict[str, Numbers]:
    """Add up the rows that have one value of *field*: `model`, `api` or `client`."""
    found: dict[str, Numbers] = {}
    for key, numbers in book.items():
        add(found.setdefault(getattr(key, field), {}), numbers)
    return found


def requests(numbers: Mapping[str, int]) -> int:
    return sum(numbers.get(result, 0) for result in RESULTS)


def buckets(numbers: Mapping[str, int], name: str) -> list[tuple[float, int]]:
    """The counts of *name* by upper bound, in order; a worker of another version may have others than we."""
    found = {}
    for field, count in numbers.items():
        first, _, bound = field.partition(" ")
        if first == name and bound != "sum":
            found[float(bound)] = count
    return sorted(found.items())


def quantile(numbers: Mapping[str, int], name: str, share: float) -> float | None:
    """About how many seconds *share* of all took at most, within a bucket in proportion; None where none was counted."""
    counted = buckets(numbers, name)
    wanted, seen, below = share * sum(count for _, count in counted), 0, 0.0
    for bound, count in counted:
        if count and seen + count >= wanted:
            return below if bound == float("inf") else below + (bound - below) * (wanted - seen) / count
        seen, below = seen + count, bound
    return None


def speed(numbers: Mapping[str, int]) -> float | None:
    """Tokens a second, while answers were being made."""
    seconds = numbers.get("speaking", 0) / MICRO
    return round(numbers.get("spoken", 0) / seconds, 1) if seconds > 0.001 else None


def period(numbers: Mapping[str, int]) -> dict[str, Any]:
    """What a person wants to know of some time."""
    first = {name: quantile(numbers, "first_token", share) for name, share in (("p50", 0.5), ("p95", 0.95))}
    return {
        "requests": requests(numbers),
        "errors": sum(numbers.get(result, 0) for result in ERRORS),
        **{name: numbers.get(name, 0) for name in ("aborted", "refused", "lost", "retried", *KINDS)},
        "first_token": {name: seconds if seconds is None else round(seconds, 3) for name, seconds in first.items()},
        "tokens_per_second": speed(numbers),
    }


class Recent:
    """The last day in slots of five minutes, by model and by client."""

    def __init__(self) -> None:
        self._slots: dict[int, tuple[dict[str, Numbers], dict[str, Numbers]]] = {}

    def enter(self, at: float, book: Mapping[Key, Mapping[str, int]]) -> None:
        models, clients = self._slots.setdefault(slot(at), ({}, {}))
        for field, rows in (("model", models), ("client", clients)):
            for name, numbers in by(book, field).items():
                few = numbers if field == "model" else {n: c for n, c in numbers.items() if " " not in n}
                add(rows.setdefault(name, {}), few)
        for old in [old for old in self._slots if old <= at - DAY]:
            del self._slots[old]

    def since(self, at: float) -> tuple[dict[str, Numbers], dict[str, Numbers]]:
        """By model, and by client, what was counted since about *at*."""
        found: tuple[dict[str, Numbers], dict[str, Numbers]] = ({}, {})
        for begun, rows in self._slots.items():
            if begun > at - SLOT:
                for one, other in zip(found, rows, strict=True):
                    for name, numbers in other.items():
                        add(one.setdefault(name, {}), numbers)
        return found


def slot(at: float, seconds: int = SLOT) -> int:
    return int(at // seconds) * seconds


def document(recent: Recent, fresh: Book, live: Book, now: float) -> dict[str, Any]:
    """What `/status` shows: *fresh* came after what is in *recent*, *live* is what is in flight, by row."""
    hour, day = recent.since(now - HOUR), recent.since(now - DAY)
    for time in (hour, day):
        for found, field in zip(time, ("model", "client"), strict=True):
            for name, numbers in by(fresh, field).items():
                add(found.setdefault(name, {}), numbers)
    flying = {name: numbers.get("in_flight", 0) for name, numbers in by(live, "model").items()}
    rows = [
        {"name": name, "in_flight": flying.get(name, 0),
         "hour": period(hour[0].get(name, {})), "day": period(day[0].get(name, {}))}
        for name in sorted({*day[0], *(name for name, count in flying.items() if count)})
    ]  # fmt: skip
    users = [{"name": name, "hour": _few(hour[1].get(name, {})), "day": _few(day[1][name])} for name in sorted(day[1])]
    return {"in_flight": sum(flying.values()), "models": rows, "clients": users}


def _few(numbers: Mapping[str, int]) -> dict[str, Any]:
    told = period(numbers)
    return {key: told[key] for key in ("requests", "errors", "aborted", *KINDS)}


def wholes(book: Mapping[Key, Mapping[str, int]], models: Iterable[str]) -> tuple[int, int]:
    """How many answers of *models* came to their end, and how many began and broke off."""
    rows = [numbers for key, numbers in book.items() if key.model in set(models)]
    return sum(row.get("ok", 0) for row in rows), sum(row.get("broken", 0) for row in rows)
