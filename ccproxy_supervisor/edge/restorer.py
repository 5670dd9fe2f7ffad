"""What the daemon keeps on disk and somebody may remove under it: looked for now and then, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from anyio import sleep, to_thread

from ccproxy_supervisor.core.model import Journal, Note

EVERY = 2.0  # seconds

Restore = Callable[[], bool]


def restore_folder(path: Path, *, private: bool = False) -> bool:
    """Make a folder anew that is gone, or is *private* and open to others; returns whether it was. Raises OSError."""
    if path.is_dir():
        if not private or not path.stat().st_mode & 0o077:
            return False
        path.chmod(0o700)
    else:
        path.mkdir(mode=0o700, parents=not private)
    return True


class Restorer:
    """*things* are asked for at each look: by name, what puts the thing back and returns True if it was gone. Folders come
    first. They are called in a thread, all in one turn: a dead disk must not hold up the event loop, and each turn costs as
    much as all the looks."""

    def __init__(self, journal: Journal, things: Callable[[], Iterable[tuple[str, Restore]]]) -> None:
        self._journal, self._things = journal, things
        self._troubles: dict[str, str] = {}
        self._restored: set[str] = set()  # at the last look: not to be told of at each

    async def run(self) -> None:
        """Look for ever."""
        while True:
            things = tuple(self._things())
            for name, found in await to_thread.run_sync(_restore, things, abandon_on_cancel=True):
                self._tell(name, found)
            await sleep(EVERY)

    def _tell(self, name: str, found: bool | OSError) -> None:
        """What cannot be put back is told once, and tried again."""
        if isinstance(found, OSError):
            reason = found.strerror or str(found)
            if self._troubles.get(name) != reason:
                self._troubles[name] = reason
                told = f"cannot restore {name}: {reason}; trying again"
                self._journal(Note("file.lost", "error", {"file": name, "error": told}))
            return
        self._troubles.pop(name, None)
        if found and name not in self._restored:
            self._journal(Note("file.restored", "warning", {"file": name}))
        (self._restored.add if found else self._restored.discard)(name)


def _restore(things: Iterable[tuple[str, Restore]]) -> list[tuple[str, bool | OSError]]:
    found = list[tuple[str, bool | OSError]]()
    for name, restore in things:
        try:
            found.append((name, restore()))
        except OSError as error:
            found.append((name, error))
    return found
