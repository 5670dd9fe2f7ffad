"""The launcher as it was when we started: an upgrade of this package between two spawns must not change, or break, what is
spawned."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import psutil

from ccproxy_supervisor.core.model import SpawnError
from ccproxy_supervisor.system.files import put

PACKAGE = Path(__file__).parents[1] / "launcher"
NAME = "litellm-launcher-"  # who asks `ps` for litellm finds its workers by it
MAIN = "__main__.py"


class Launcher:
    """Read at once; its copy in the folder *run* is made whole again before each use."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._files = {path.name: path.read_bytes() for path in sorted(PACKAGE.glob("*.py"))}
        digest = sha256(b"".join(b"%b\0%d\0%b" % (n.encode(), len(t), t) for n, t in self._files.items()))
        self._folder = run / f"{NAME}{digest.hexdigest()[:16]}"

    @property
    def path(self) -> str:
        """The file that is run, unless there is no good copy."""
        return str(self._folder / MAIN)

    def __call__(self) -> str:
        """Return the file to run; raises `SpawnError` when there is neither a good copy nor the original."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, text in self._files.items():
                if not _holds(self._folder / name, text):
                    put(self._folder / name, text)
        except OSError as error:
            if not all(_holds(PACKAGE / name, text) for name, text in self._files.items()):
                raise SpawnError(f"cannot keep a copy of the launcher in {self._folder}: {error.strerror}") from error
            return str(PACKAGE / MAIN)
        return self.path

    def started(self, words: Iterable[str]) -> bool:
        """Whether a process with the command line *words* was started by us, or by another supervisor of this home."""
        return any(path == PACKAGE / MAIN or self._copy(path) for path in map(Path, words))

    def forget_others(self, pids: Iterable[int]) -> None:
        """Remove the copies of earlier supervisors, but for those that a process of *pids* was started from."""
        kept = {self._folder.name}
        for pid in pids:
            try:
                kept.update(Path(word).parent.name for word in psutil.Process(pid).cmdline())
            except psutil.NoSuchProcess:
                continue
            except Exception:  # psutil raises what the system gives it
                return
        for folder in self._run.glob(f"{NAME}*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _copy(self, path: Path) -> bool:
        ours = path.parts[-1:] == (MAIN,) and path.parent.name.startswith(NAME)
        return ours and os.path.realpath(path.parents[1]) == os.path.realpath(self._run)


def _holds(path: Path, text: bytes) -> bool:
    try:
        return path.read_bytes() == text
    except OSError:
        return False
