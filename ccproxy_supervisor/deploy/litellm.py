"""Installs one version of LiteLLM into an environment of its own, and looks at it before any of it may run."""

from __future__ import annotations

import os
import shutil
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

from ccproxy_supervisor.deploy import bytecode
from ccproxy_supervisor.deploy.environments import Environment, Environments
from ccproxy_supervisor.deploy.errors import InstallError, RefusedError
from ccproxy_supervisor.deploy.inspection import inspect
from ccproxy_supervisor.deploy.locks import pins
from ccproxy_supervisor.edge.home import packages

NEEDED = 1_500_000_000  # bytes: 750 MB of packages, and their wheels meanwhile
Say = Callable[[str], None]
Fill = Callable[[Path, Path], None]


def install(environments: Environments, version: str, lock: str, fill: Fill, say: Say) -> Environment:
    """Build, inspect and keep; whatever goes wrong, nothing half-made stays. Raises `InstallError`.

    *fill* is given the new interpreter and the lock file, and puts the packages in place. The folder is built where
    it will stay, for scripts hold its path; it is no environment until the lock is in it under its final name.
    """
    _check_space(environments.folder, version)
    new = environments.fresh(version)
    say(f"LiteLLM {version}: installing {len(pins(lock))} packages into {new.path}")
    try:
        _make(new.path)
        draft = new.stamp.with_suffix(".partial")
        draft.write_text(lock)
        fill(new.python, draft)
        say(f"LiteLLM {version}: inspecting what was installed")
        examine(new, version)
        bytecode.compiled(new.path)
        _sync(draft)
        draft.rename(new.stamp)
    except OSError as error:
        new.remove()
        raise InstallError(f"cannot install LiteLLM {version}: {error.strerror or error}; nothing was kept") from error
    except BaseException:
        new.remove()
        raise
    return new


def examine(environment: Environment, version: str) -> None:
    """Refuse an environment that would run code at start, or whose files are not those its packages name.

    Its bytecode is removed: what is looked at are the sources, so they must be what runs.
    """
    bytecode.purge(environment.path)
    if faults := inspect(environment.path):
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise RefusedError(f"refused LiteLLM {version}: {'; '.join(faults[:3])}{more}; none of it was run")
    found = packages(environment.path).get("litellm")
    if found != version:
        raise InstallError(f"cannot install LiteLLM {version}: the environment has {found or 'none'}")


def _make(path: Path) -> None:
    """Make an environment without pip: then nothing is in it that could be overwritten while it is filled."""
    path.mkdir(mode=0o700)
    try:
        venv.EnvBuilder(symlinks=True, with_pip=False).create(path)
    except (OSError, ValueError) as error:
        raise InstallError(f"cannot make {path} with {sys.executable}: {error}") from error


def _check_space(folder: Path, version: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED:
        have, need = (f"{size / 1e9:.1f} GB" for size in (free, NEEDED))
        raise InstallError(f"cannot install LiteLLM {version}: {have} free at {folder}, {need} needed")


def _sync(path: Path) -> None:
    """What the rename will vouch for must be on the disk before it, also when the power fails."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


class Condensed:
    """Of pip's many lines, the few that tell a person how far it is. *show* gets (done, of how many, what)."""

    def __init__(self, total: int, show: Callable[[int, int, str], None]) -> None:
        self._done, self._total, self._show = 0, total, show

    def __call__(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word in ("Collecting", "Processing"):  # Processing: a wheel from a folder
            self._done += 1
            self._show(min(self._done, self._total), self._total, os.path.basename(rest.partition(" (")[0]))
        elif line.startswith("Installing collected packages"):
            self._show(self._total, self._total, "unpacking")


def summary(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Changes of versions as lines for a person."""
    wide, far = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return [f"  {name:{wide}}  {old or 'new':>{max(far, 3)}} → {new or 'removed'}" for name, old, new in rows]
