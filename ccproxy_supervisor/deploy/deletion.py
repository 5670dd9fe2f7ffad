"""Deleting a home: all of it, and nothing else."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ccproxy_supervisor.deploy.service import ServiceError


def check(config: Path) -> None:
    """Raise `ServiceError` unless the folder of *config* is a home, and nothing more."""
    home = config.parent
    if not config.is_file():
        raise ServiceError(f"cannot delete {home}: there is no {config.name} in it")
    if home.is_symlink() or any(home.resolve() in (person, *person.parents) for person in _persons(home)):
        raise ServiceError(f"cannot delete {home}: it is not a folder of its own")


def _persons(home: Path) -> Iterator[Path]:
    """The home folders of who asks and of who owns *home*: with sudo, these are two."""
    yield Path.home().resolve()
    with suppress(KeyError):
        yield Path(pwd.getpwuid(home.stat().st_uid).pw_dir).resolve()


def delete(config: Path) -> None:
    """Delete the home of *config* with everything in it."""
    check(config)
    shutil.rmtree(config.parent)
