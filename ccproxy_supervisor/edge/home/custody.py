"""Looks at what the rule of custody asks for: who owns a place, who may write there, who is in a group."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path

from ccproxy_supervisor.core.custody import ROOT, Seen, World, weak

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def weaknesses(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Every place from which one of *paths* could be replaced by somebody else, once, and what to do about it.

    Access control lists are not looked at.
    """
    us = os.geteuid()
    world = World(us, cache(_look), _person, cache(lambda group: _members(group, us)))
    return list(dict.fromkeys(found for path in paths for found in weak(path, world)))


def environment(python: str) -> Iterator[str]:
    """What decides which code *python*, of a virtual environment, runs: itself, what it was made from, and its packages."""
    yield python
    real, prefix = os.path.realpath(python), os.path.dirname(os.path.dirname(python))
    base = os.path.dirname(os.path.dirname(real))
    for folder in dict.fromkeys((prefix, base)):
        yield from (os.path.join(folder, "pyvenv.cfg"), os.path.join(folder, "bin"))
        for library in _entries(os.path.join(folder, "lib")):
            if os.path.basename(library).startswith("python3"):
                yield library
                yield from _entries(os.path.join(library, "site-packages")) if folder == prefix else ()


def everything(folder: str) -> Iterator[str]:
    """All there is in *folder*: for who has time to look at 30,000 files."""
    for place, folders, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in (*folders, *names))


def program(python: str) -> Iterator[str]:
    """What decides which code this very program runs, with *python*."""
    return chain(environment(python), everything(str(Path(__file__).parents[2])))


def modules(folders: Iterable[str], texts: Iterable[str]) -> Iterator[str]:
    """What Python would find of its modules in *folders*, and what the dotted names in *texts* mean there: of
    `mine.calls.handler`, the package `mine` and its `calls.py`."""
    named = {name for text in texts for name in _DOTTED.findall(text)}
    for folder in dict.fromkeys(folders):
        yield folder
        yield from (entry for entry in _entries(folder) if entry.endswith(".py"))
        for *parts, _ in (name.split(".") for name in named):
            stems = [os.path.join(folder, *parts[:depth]) for depth in range(1, len(parts) + 1)]
            yield from (path for stem in stems for path in (stem, f"{stem}.py", os.path.join(stem, "__init__.py")))


def _entries(folder: str) -> list[str]:
    with suppress(OSError):
        return [folder, *(entry.path for entry in os.scandir(folder))]
    return []


def _look(path: str) -> Seen | None:
    try:
        found = os.lstat(path)
        target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None
    except OSError:  # what we cannot see into, nobody can make us run
        return None
    return Seen(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), stat.S_ISDIR(found.st_mode), target)


def _person(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _members(group: int, us: int) -> tuple[str, list[str]]:
    """Name *group*, and who is in it besides us and root: on macOS everybody is in `staff`, administrators in `admin`."""
    ours, name, members = {_person(us), _person(ROOT)}, str(group), set[str]()
    with suppress(KeyError):
        found = grp.getgrgid(group)
        name, members = found.gr_name, set(found.gr_mem)
    members |= {
        person.pw_name for person in pwd.getpwall() if person.pw_gid == group and person.pw_uid not in (us, ROOT)
    }
    return name, sorted(members - ours)
