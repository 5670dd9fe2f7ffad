"""The conversation with the supervisor, and signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable

from .health import LONGEST, Health

STUCK = 70  # exit status


class Control:
    """Orders from the supervisor and from signals; they may come long before there is a loop."""

    def __init__(self, fd: int, drain: float) -> None:
        self.fd, self.drain, self.cut = fd, drain, 0
        self._line = socket.socket(fileno=fd)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.receive: Callable[[socket.socket], object] | None = None  # whoever visits the private door
        self.health = Health()
        self.activated, self.leaving = asyncio.Event(), asyncio.Event()
        self._armed = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C in a terminal is for the supervisor
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self.obey("drain"))
        threading.Thread(target=self._read, daemon=True, name="control").start()

    def say(self, word: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self.fd, word.encode() + b"\n")

    def obey(self, order: str) -> None:
        """A word that we do not know is of a newer supervisor, and not for us."""
        word, _, rest = order.partition(" ")
        if word == "health":
            self.health.hear(rest)
        elif word == "activate":
            self._set(self.activated)
        elif word == "drain":
            self.drain = float(rest or self.drain)
            self._arm()
            if self.loop is None:
                os._exit(0)  # nothing served yet, nothing to drain
            self._set(self.leaving)

    def _set(self, event: asyncio.Event) -> None:
        if self.loop is None:
            event.set()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving already
            self.loop.call_soon_threadsafe(event.set)

    def _read(self) -> None:
        buffer = b""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._line, 4096, 16)
            except OSError:
                data, descriptors = b"", []
            for descriptor in descriptors:
                self._admit(descriptor)
            if not data:
                return self.obey("drain")
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self.obey(line.decode())
            if len(buffer) > LONGEST:
                return self.obey("drain")  # not our supervisor's words

    def _admit(self, descriptor: int) -> None:
        """A connection to the private door that needs no path: the supervisor's probe."""
        os.set_inheritable(descriptor, False)
        visitor = socket.socket(fileno=descriptor)
        self.say("met")
        try:
            assert self.loop is not None
            assert self.receive is not None
            self.loop.call_soon_threadsafe(self.receive, visitor)
        except (AssertionError, RuntimeError):  # not ready yet, or the loop is closed
            visitor.close()

    def _arm(self) -> None:
        """The loop may be stuck in a blocking call: a thread ends the process regardless."""
        if not self._armed:
            self._armed = True
            deadline = threading.Timer(self.drain + 10, os._exit, (STUCK,))
            deadline.daemon = True
            deadline.start()
