"""LiteLLM's environments, side by side in `venvs/`, and `venv`, the link to the one in use.

An environment is complete when it holds the lock it was made from: that file is put there last. Complete ones are
never changed again, so whatever is interrupted, `venv` links to something whole.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.deploy.locks import packages
from ccproxy_supervisor.edge.home import interpreter_fault

STAMP = "ccproxy.lock"


@dataclass(frozen=True, slots=True)
class Environment:
    """One version's folder: `1.106.2`, or `1.106.2-2` when that version was built a second time."""

    path: Path

    @property
    def version(self) -> str:
        return self.path.name.partition("-")[0]

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.path / STAMP

    @property
    def packages(self) -> tuple[str, ...]:
        """What it was asked to have besides litellm[proxy]."""
        try:
            return packages(self.stamp.read_text())
        except (OSError, ValueError):
            return ()

    @property
    def complete(self) -> bool:
        return self.stamp.is_file()

    @property
    def broken(self) -> str | None:
        return broken_interpreter(self.path)

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self.stamp.unlink()  # first: half an environment must not look like a whole one
        shutil.rmtree(self.path, ignore_errors=True)


def broken_interpreter(environment: Path) -> str | None:
    """Say why the Python of *environment* is not what it was made with; None when all is well. Starts nothing."""
    python = environment / "bin" / "python"
    reason = interpreter_fault(python)
    if reason is None:
        with suppress(OSError):  # it may still run, from the folder that was compiled into it, but is not to be kept
            base = re.search(r"^home *= *(.+)$", (environment / "pyvenv.cfg").read_text(), re.MULTILINE)
            if base and not os.path.isdir(base[1].strip()):
                reason = f"it was made from {base[1].strip()}, which is gone"
    return reason and f"cannot run {python}: {reason}"


class Environments:
    """All of one home's."""

    def __init__(self, home: Path) -> None:
        self.home, self.folder = home, home / "venvs"
        self.link = home / "venv"

    @property
    def current(self) -> Environment | None:
        return self._linked(self.link)

    @property
    def previous(self) -> Environment | None:
        """The one that was in use before; None when it is not there any more."""
        current = self.current
        previous = current and self._linked(self._way_back(current))
        return previous if previous and previous.complete else None

    def _linked(self, link: Path) -> Environment | None:
        target = _target(link)
        return None if target is None else Environment(self.folder / os.path.basename(target))

    def _way_back(self, environment: Environment) -> Path:
        """The link from *environment* to the one before it; one for each, so that `venv` moves the way back with it."""
        return self.folder / f".{environment.path.name}.previous"

    def all(self) -> list[Environment]:
        """Every folder, complete or not, the newest first."""
        found = [entry for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False)]
        return [Environment(Path(entry)) for entry in sorted(found, key=lambda entry: -entry.stat().st_mtime)]

    def find(self, version: str, packages: Sequence[str] = ()) -> Environment | None:
        """A whole environment of *version* with *packages* whose interpreter runs."""
        whole = (each for each in self.all() if each.version == version and each.complete and not each.broken)
        return next((each for each in whole if each.packages == tuple(packages)), None)

    def fresh(self, version: str) -> Environment:
        """Name a new folder for *version*; what an interrupted installation left is removed."""
        for each in self.all():
            if not each.complete:
                each.remove()
        names = (version, *(f"{version}-{number}" for number in range(2, 100)))
        return Environment(next(self.folder / name for name in names if not (self.folder / name).exists()))

    def switch(self, new: Environment) -> None:
        """Make *new* the one in use, in one step; one of another version or with other packages is the previous one then."""
        current = self.current
        other = current and (current.version, current.packages) != (new.version, new.packages)
        before = current if other else self.previous
        _link(self._way_back(new), before.path.name if before else None)
        self.use(new)

    def use(self, environment: Environment | None) -> None:
        """Make *environment* the one in use, with the way back that it has."""
        _link(self.link, f"{self.folder.name}/{environment.path.name}" if environment else None)

    def prune(self, keep: int, named: Collection[str] = ()) -> list[Environment]:
        """Remove all but *keep*, those whose interpreter is *named*, and those that a process still runs from.

        Returns the removed ones.
        """
        first = [each for each in (self.current, self.previous) if each]
        rest = [each for each in self.all() if each not in first]
        kept = [*first, *(each for each in rest if not each.broken)][:keep]
        going = [each for each in rest + first if each not in (*kept, self.current) and not in_use(each, named)]
        for each in going:
            each.remove()
            self._way_back(each).unlink(missing_ok=True)
        return going

    @contextmanager
    def lock(self, wait: Callable[[], None]) -> Iterator[int]:
        """One change at a time; yields a descriptor that children inherit, so that orphaned ones are waited for too.

        *wait* is told when somebody else is at it.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def in_use(environment: Environment, named: Collection[str] = ()) -> bool:
    """Whether its interpreter is *named*, or a process was started with it."""
    inside = f"{environment.path.resolve()}{os.sep}"
    return any(python.startswith(inside) for python in (*named, *_running()))


def _running() -> Iterator[str]:
    """Every interpreter that runs, as it was started. A framework Python on macOS puts its own path in place of the
    first word, and keeps the one that was meant in its environment."""
    for process in psutil.process_iter():
        words: list[str] = known(process.cmdline, [])
        environ: dict[str, str] = known(process.environ, {})
        yield from words[:1]
        yield environ.get("__PYVENV_LAUNCHER__", "")


def _target(link: Path) -> str | None:
    return os.readlink(link) if link.is_symlink() else None


def _link(link: Path, target: str | None) -> None:
    """Make *link* lead to *target* in one step, or nowhere."""
    if target is None:
        link.unlink(missing_ok=True)
        return
    partial = link.with_name(f".{link.name}.new")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(link)
