"""What workers are born from, kept as it was checked in a folder for each state of it, `run/births/…`.

Else an edit that was never reloaded would reach the worker that replaces a crashed one. The folder stands in for the
config's own: what is not kept there is linked, so a handler finds the files beside it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ccproxy_supervisor.core.model import Journal, Note
from ccproxy_supervisor.core.plan import COUNTERS, Birth
from ccproxy_supervisor.system.files import put

_NOT_LINKED = frozenset({"run", "__pycache__"})  # this folder is in the one; Python writes into the other


class Births:
    """*folder* is made when it is needed."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder, self._journal = folder, journal

    def keep(self, birth: Birth) -> str:
        """Return the path of *birth*'s config as it was checked, its modules beside it.

        What is there already is looked at anew: a power loss may have emptied it.
        """
        place = self._place(birth)
        try:
            if counters := dict(birth.env).get(COUNTERS):
                Path(counters).mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, text in birth.sources.kept:
                _write(place / name, text.encode())
            _link(Path(birth.config).parent, place, {name for name, _ in birth.sources.kept})
        except OSError as error:  # a full disk: better the files as they are than no worker
            fields = {"folder": str(place), "reason": error.strerror, "remedy": "workers read the files as they are"}
            self._journal(Note("birth.unkept", "warning", fields))
            return birth.config
        return str(place / birth.sources.kept[0][0]) if birth.sources.kept else birth.config

    def forget(self, kept: Iterable[Birth]) -> None:
        """Remove what no worker of *kept* births may still read."""
        places = {self._place(birth).name for birth in kept}
        with suppress(OSError):
            for entry in list(os.scandir(self._folder)):
                if entry.name not in places:
                    shutil.rmtree(entry.path, ignore_errors=True)  # what stays only takes room

    def forget_counters(self) -> None:
        """What workers of earlier supervisors counted; only while there are none."""
        shutil.rmtree(self._folder.with_name("prometheus"), ignore_errors=True)

    def _place(self, birth: Birth) -> Path:
        whole = json.dumps([birth.config, birth.sources.kept]).encode()
        return self._folder / sha256(whole).hexdigest()[:16]


def _write(path: Path, data: bytes) -> None:
    with suppress(FileNotFoundError):
        if not path.is_symlink() and path.read_bytes() == data:
            return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    put(path, data)


def _link(original: Path, place: Path, kept: set[str]) -> None:
    """Make the rest of *original* seen in *place*, and of each of its folders that has something *kept*."""
    folders = {str(parent) for name in kept for parent in Path(name).parents}
    for folder in folders:
        for entry in os.scandir(original / folder):
            name = os.path.normpath(os.path.join(folder, entry.name))
            link = place / name
            if name in kept | folders or entry.name in _NOT_LINKED or entry.name.startswith("."):
                continue
            if not os.path.lexists(link):
                link.symlink_to(entry.path)
