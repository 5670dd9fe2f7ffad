"""When a log is rotated, what the rotated file is called, and which ones have to go. Time is passed in."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from mmap import mmap

from ccproxy_supervisor.core.model import LOGS

CURRENT = frozenset(f"{log}.log" for log in LOGS)
PARTIAL = ".part"  # a compressed file that is not finished yet
_ARCHIVE = re.compile(rf"({'|'.join(LOGS)})\.log\.([0-9]{{8}}-[0-9]{{6}})(?:\.([0-9]{{1,9}}))?(\.gz)?")
_FAR = 26 * 3600  # a stamp this far ahead (more than any change of zone) comes from a clock that was wrong


def next_boundary(rotate: str, now: float, zone: tzinfo | None = None) -> float:
    """When the hour, day or week that holds *now* ends in local time, as wall seconds; infinite for `never`."""
    if rotate == "never":
        return math.inf
    whole = math.floor(now)
    here = datetime.fromtimestamp(whole, zone)
    if rotate == "hourly":  # counted in seconds, not on the wall: the repeated hour of autumn is two
        return whole + 3600 - 60 * here.minute - here.second
    days = 7 - here.weekday() if rotate == "weekly" else 1
    midnight = here.replace(hour=0, minute=0, second=0, fold=0)
    return (midnight + timedelta(days=days)).timestamp()


@dataclass(frozen=True, slots=True)
class Archive:
    """A rotated file, compressed or not; *number* tells those of one second apart."""

    log: str
    stamp: str
    number: int


def parse(name: str) -> Archive | None:
    """Read the name of a rotated file; None: not one of ours."""
    match = _ARCHIVE.fullmatch(name)
    return Archive(match[1], match[2], int(match[3] or 0)) if match else None


def archive_name(log: str, at: float, names: Iterable[str], zone: tzinfo | None = None) -> str:
    """The name under which *log*, rotated at *at*, joins the files called *names*: never one that is taken."""
    stamp = _stamp(at, zone)
    taken = [found.number for found in map(parse, names) if found and (found.log, found.stamp) == (log, stamp)]
    return f"{log}.log.{stamp}" + (f".{max(taken) + 1}" if taken else "")


def surplus(files: Mapping[str, int], keep: int, max_total: int, now: float, zone: tzinfo | None = None) -> list[str]:
    """The rotated files to delete, oldest first, out of *files* (name → bytes): at most *keep* stay of each log, and
    with the current files at most *max_total* bytes."""
    copies: dict[Archive, list[str]] = {}  # the plain file and its compressed one, while both are there
    for name in files:
        if archive := parse(name):
            copies.setdefault(archive, []).append(name)
    future = _stamp(now + _FAR, zone)
    # A file from the future is the oldest of all, or every file after it would be deleted at once.
    ages = sorted(copies, key=lambda each: (each.stamp <= future, each.stamp, each.number, each.log))
    left = Counter(each.log for each in ages)
    total = disk_use(files)
    doomed: list[str] = []
    for each in ages:
        if left[each.log] > keep or total > max_total:
            left[each.log] -= 1
            total -= sum(files[name] for name in copies[each])
            doomed += copies[each]
    return doomed


def disk_use(files: Mapping[str, int]) -> int:
    """How many bytes of *files* are logs, rotated or not."""
    return sum(size for name, size in files.items() if parse(name) or name in CURRENT)


def leftovers(names: Iterable[str]) -> list[str]:
    """What a crash during compression left behind: unfinished files, and plain ones whose compressed one is complete."""
    known = set(names)
    partial = [name for name in known if name.endswith(PARTIAL) and parse(name.removesuffix(PARTIAL))]
    return partial + [name for name in known if parse(name) and f"{name}.gz" in known]


def uncompressed(names: Iterable[str]) -> list[str]:
    """The rotated files that are still plain, oldest first."""
    plain = [(found.stamp, found.number, name) for name in names if not name.endswith(".gz") and (found := parse(name))]
    return [name for *_, name in sorted(plain)]


def fit(data: bytes | bytearray | mmap, start: int, end: int, room: int, *, fresh: bool) -> int:
    """Where to cut *data* so that whole lines from *start* fill at most *room*: *start* itself when none fits, except
    that a *fresh* file takes one line of any length."""
    if end - start <= room:
        return end
    cut = data.rfind(b"\n", start, start + room) + 1 if room > 0 else 0
    if cut > start:
        return cut
    return (data.find(b"\n", start, end) + 1 or end) if fresh else start


def _stamp(at: float, zone: tzinfo | None) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y%m%d-%H%M%S")
