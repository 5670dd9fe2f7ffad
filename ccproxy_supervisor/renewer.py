"""How this supervisor came after another, and whether another may follow it in the same process."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from anyio import sleep, to_thread

from ccproxy_supervisor import __version__
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import Journal, Note
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.edge.listener import ListenError, open_listener
from ccproxy_supervisor.edge.ownership import Ownership
from ccproxy_supervisor.edge.renewal import Arrival, Entry, Handed, RenewalError, Signals, arrived, follow, settle
from ccproxy_supervisor.system.age import age

LOOK = 0.05  # seconds between two looks whether we have taken over


@dataclass
class Image:
    """How this image of the program was started, what the last one left, and the signals that may be left to the next."""

    entry: Entry
    arrival: Arrival
    signals: Signals

    @classmethod
    def this(cls) -> Image:
        """To be asked first of all, and once."""
        entry, arrival = Entry.of_this(), arrived()
        return cls(entry, arrival, Signals(arrival.handed.signals))


class Renewer:
    """*plan* is the one in force, *read* gives the one on disk; *activated* tells whether the service manager holds the public
    socket, *up* whether we have taken over. *restarts* and *renewals* count what happened to this home's supervisors."""

    def __init__(
        self, run: Path, image: Image, plan: Callable[[], Plan], read: Callable[[], Plan], activated: Callable[[], bool],
        up: Callable[[], bool], journal: Journal,
    ) -> None:  # fmt: skip
        self.restarts = self.renewals = self.adopted = 0
        self.seconds: float | None = None  # from the last image's end, or our start, until all were taken on
        self.begin: Callable[[Ownership], NoReturn] | None = None  # what this process does as soon as it has left
        self._run, self._image, self._arrival = run, image, image.arrival
        self._plan, self._read, self._activated, self._journal = plan, read, activated, journal
        self._up, self._by, self._follower = up, "", ""

    def begun(self, restarts: int, renewals: int, adopted: int, *, lost: bool) -> None:
        """So many workers were *adopted*; the last supervisor was *lost*, or left."""
        last = self._arrival.handed
        renewed = last.left > 0 and not last.undone
        self.restarts, self.renewals, self.adopted = (
            restarts + ((lost or bool(last.undone)) and not renewed),
            renewals + renewed,
            adopted,
        )
        took = time.time() - last.left if last.left else known(lambda: age(os.getpid()), 0.0)
        self.seconds = round(max(0.0, took), 3)
        fields = {
            "by": last.by,
            "version": __version__,
            "was": last.version,
            "seconds": self.seconds,
            "workers": adopted,
        }
        if renewed:
            self._journal(Note("renewal.ended", "info", fields))
        elif last.undone:
            self._journal(Note("renewal.undone", "error", fields | {"reason": self.undone}))

    @property
    def undone(self) -> str:
        """Why the last renewal was taken back; empty: it was not."""
        last = self._arrival.handed
        return f"version {last.undone_version} did not take over: {last.undone}" if last.undone else ""

    async def run(self) -> None:
        """Cut the way back as soon as we have taken over."""
        while not self._up():  # noqa: ASYNC110 - once in a life
            await sleep(LOOK)
        settle(self._run)
        self._arrival.settle()

    def listener(self, host: str, port: int) -> socket.socket | None:
        """The public socket of the last image, if it is of that address or the service manager's."""
        if (listener := self._arrival.listener) is None:
            return None
        if self._arrival.handed.activated or listener.getsockname()[:2] == (host, port):
            return listener
        listener.close()
        return None

    def document(self) -> dict[str, Any]:
        return {
            "restarts": self.restarts, "renewals": self.renewals, "adopted": self.adopted,
            "adoption_seconds": self.seconds, "ready": self._up(), "undone": self.undone,
        }  # fmt: skip

    async def prove(self) -> str:
        """Return the version of the supervisor that would follow; raises `RenewalError`."""
        try:
            old, new = self._plan().settings, self._read().settings
        except ConfigError as error:
            raise RenewalError(str(error)) from error
        addresses = [(old.admin.host, old.admin.port, new.admin.host, new.admin.port)]
        if not self._activated():
            addresses.append((old.proxy.host, old.proxy.port, new.proxy.host, new.proxy.port))
        for host, port, new_host, new_port in addresses:
            if (host, port) != (new_host, new_port):
                _try(new_host, new_port)
        return (await to_thread.run_sync(self._image.entry.prove)).version

    def order(self, by: str, follower: str) -> None:
        self._journal(Note("renewal.ordered", "info", {"by": by, "version": follower}))
        self._by, self._follower = by, follower

    def leave(self, public: socket.socket, *, stopping: bool) -> None:
        """Nobody is looked after from here on, until the next image takes over; it hears of a stop that came too late for us."""
        signals = self._image.signals
        signals.keep()
        if stopping:
            signals.again(signal.SIGTERM)
        handed = Handed(self._by, __version__, time.time(), self._activated(), public.detach(), (), signals.fd)
        self.begin = lambda owned: follow(
            self._image.entry, replace(handed, left=time.time(), locks=owned.descriptors), self._run, self._follower
        )


def _try(host: str, port: int) -> None:
    """A port that somebody else has would be waited for, and nobody served meanwhile."""
    try:
        open_listener(host, port).close()
    except ListenError as error:
        raise RenewalError(str(error)) from error
