"""Who else could put something of theirs in a path's place: the rule, for whoever can look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

ROOT = 0
_STICKY, _ALL, _GROUP = 0o1000, 0o002, 0o020  # restricted deletion; who may write
_LINKS = 40  # as many as the kernel follows
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """A place itself, never what it links to; *target* of a link, as it is written there."""

    owner: int
    group: int
    mode: int
    folder: bool = False
    target: str | None = None


@dataclass(frozen=True, slots=True)
class World:
    """*us* is a user's number; *look* answers None where nothing is, *person* names a user, *members* a group and who is
    in it besides us and root."""

    us: int
    look: Callable[[str], Seen | None]
    person: Callable[[int], str]
    members: Callable[[int], tuple[str, Sequence[str]]]


def weak(path: str, world: World) -> Iterator[tuple[str, str]]:
    """Find each place from which *path*, absolute, could be replaced, and say by whom and what to do.

    Links are followed one by one, for each is as good as its own folder. A sticky folder keeps others from what is not
    theirs, but not from adding to it: good enough on the way to something, not for a place that is searched.
    """
    pending, at, links = path.split("/")[::-1], "", 0
    while pending:
        part = pending.pop()
        if part == "..":
            at = at.rpartition("/")[0]
        elif part not in ("", ".") or not at:
            place = f"{at}/{part}"
            seen = world.look(place)
            if seen is None:
                return
            if why := _weakness(place, seen, world, searched=not any(pending)):
                yield place, why
            if seen.target is None:
                at = place.rstrip("/")
                continue
            links += 1
            if links > _LINKS:
                return  # whoever opens it is told
            at = "" if seen.target.startswith("/") else at
            pending += seen.target.split("/")[::-1]


def _weakness(place: str, seen: Seen, world: World, *, searched: bool) -> str | None:
    sudo = "" if seen.owner == world.us else "sudo "
    if seen.owner not in (world.us, ROOT):
        who, me = world.person(seen.owner), world.person(world.us)
        return f"belongs to {who}, who could put something else there; run: sudo chown -h {me} '{place}', or move to a folder of your own"
    if seen.target is not None or (seen.mode & _STICKY and seen.folder and not searched):
        return None
    who, sign = "", "go"
    if seen.mode & _GROUP:
        group, members = world.members(seen.group)
        more = " and others" if len(members) > _NAMED else ""
        who = f"{', '.join(members[:_NAMED])}{more} (group {group})" if members else ""
    if seen.mode & _ALL:
        who, sign = "every user", "go" if who else "o"
    elif who:
        sign = "g"
    return (
        f"{who} could put something else there (mode {seen.mode & 0o7777:04o}); run: {sudo}chmod {sign}-w '{place}'"
        if who
        else None
    )
