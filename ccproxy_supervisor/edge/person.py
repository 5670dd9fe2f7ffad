"""Root working for a person: what it does with paths that are that person's to choose reaches no further than the person could."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a home is; *home* is that person's own folder."""

    name: str
    uid: int
    gid: int
    home: str


def owner_of(path: Path) -> Owner:
    """Whoever has *path*, or the nearest folder above that is there."""
    found = next(each for each in (path, *path.parents) if each.exists()).stat()
    try:
        person = pwd.getpwuid(found.st_uid)
    except KeyError:
        return Owner(str(found.st_uid), found.st_uid, found.st_gid, "/")
    return Owner(person.pw_name, person.pw_uid, person.pw_gid, person.pw_dir)


@contextmanager
def acting_as(owner: Owner | None) -> Iterator[None]:
    """Reach files with the rights of *owner* only; nothing changes for who is not root, or when *owner* is None.

    The kernel judges every step of every path by the effective user: a link or a folder that is swapped meanwhile gains
    nothing. Programs that are started inside are still root's.
    """
    if owner is None or os.geteuid() != 0:
        yield
        return
    group = os.getegid()
    try:
        os.initgroups(owner.name, owner.gid)
        os.setegid(owner.gid)
        os.seteuid(owner.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.initgroups(pwd.getpwuid(0).pw_name, group)


def become(owner: Owner) -> None:
    """Be *owner* for good; nothing changes for who is not root, or for root's own."""
    if os.geteuid() != 0 or owner.uid == 0:
        return
    os.initgroups(owner.name, owner.gid)
    os.setgid(owner.gid)
    os.setuid(owner.uid)
    os.environ |= {"HOME": owner.home, "USER": owner.name, "LOGNAME": owner.name}
