"""The conversation with the supervisor, and with the next one; and signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from .health import LONGEST, Health
from .orphan import PROTOCOL, AdoptionSocket, OrphanReader

STUCK = 70  # exit status


class Control:
    """Orders from the supervisor and from signals; they may come long before there is a loop.

    *public_fd* is what the next supervisor is handed, with our *reader*'s pipes; *drain*, in seconds, is how long to
    finish unless the order names others.
    """

    def __init__(
        self, number: int, fd: int, public_fd: int, drain: float, door: AdoptionSocket | None, reader: OrphanReader
    ) -> None:
        self.number, self.fd, self.public_fd, self.drain, self.cut = number, fd, public_fd, drain, 0
        self._line = socket.socket(fileno=fd)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.receive: Callable[[socket.socket], object] | None = None  # whoever visits the private door
        self.health = Health()
        self.activated, self.leaving = asyncio.Event(), asyncio.Event()
        self._door, self._reader, self._lock = door, reader, threading.Lock()
        self._said: list[str] = []
        self._slot: int | None = None
        self.limits: dict[str, Any] | None = None  # of how many requests are let in at once
        self.keep_alive: float | None = None  # seconds of silence after which a stream has a sign of life
        self._care: dict[str, Any] = {}  # how to go on without a supervisor; who was told nothing leaves
        self._armed = self._draining = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C in a terminal is for the supervisor
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self.obey("drain"))
        threading.Thread(target=self._live, daemon=True, name="control").start()

    def say(self, word: str, *, remember: bool = True) -> None:
        """Tell the supervisor, and the next one too if it is to *remember*."""
        with self._lock:
            if remember:
                self._said.append(word)
            self._write(word)

    def obey(self, order: str) -> None:
        """A word that we do not know is of a newer supervisor, and not for us."""
        word, _, rest = order.partition(" ")
        match word:
            case "drain":
                self._leave(float(rest or self.drain))
            case "activate":
                self._slot = int(rest) if rest else None
                self._set(self.activated)
            case "health":
                self.health.hear(rest)
            case "care":
                care = json.loads(rest)
                self.drain, care["grace"] = float(care["drain"]), float(care["grace"])
                self._care, self.limits = care, care.get("limits")
                self.keep_alive = float(care["keep_alive"]) if care.get("keep_alive") else None

    def finish(self) -> None:
        """Have the last words in a place where the next supervisor finds them."""
        self._reader.stop()

    def _leave(self, seconds: float) -> None:
        self.drain, self._draining = seconds, True
        if self._door:
            self._door.shut()
        self._arm()
        if self.loop is None:  # nothing served yet, nothing to drain
            self.finish()
            os._exit(0)
        self._set(self.leaving)

    def _set(self, event: asyncio.Event) -> None:
        if self.loop is None:
            event.set()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving already
            self.loop.call_soon_threadsafe(event.set)

    def _live(self) -> None:
        while True:
            self._listen()
            self._reader.start()
            if self._draining or (sock := self._wait()) is None:
                return self.obey("drain")
            self._reader.stop()
            with self._lock:
                self._line.close()
                self._line, self.fd = sock, sock.fileno()
                for word in ("adopted", *self._said):
                    self._write(word)

    def _listen(self) -> None:
        """Obey until the other end is closed."""
        buffer = b""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._line, 4096, 16)
            except OSError:
                data, descriptors = b"", []
            for descriptor in descriptors:
                self._admit(descriptor)
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, LookupError, TypeError):  # not an order; the next one may be
                    self.obey(line.decode())
            if not data or len(buffer) > LONGEST:  # its end, or not our supervisor's words
                return

    def _admit(self, descriptor: int) -> None:
        """A connection to the private door that needs no path: the supervisor's probe."""
        os.set_inheritable(descriptor, False)
        visitor = socket.socket(fileno=descriptor)
        self.say("met", remember=False)
        try:
            assert self.loop is not None
            assert self.receive is not None
            self.loop.call_soon_threadsafe(self.receive, visitor)
        except (AssertionError, RuntimeError):  # not ready yet, or the loop is closed
            visitor.close()

    def _wait(self) -> socket.socket | None:
        """Return the socket of the next supervisor; None if there is none in time."""
        if self._door is None or not self._care:
            return None
        return self._door.wait(self._care["grace"], self._hello, lambda: [self.public_fd, *self._reader.ends])

    def _hello(self) -> dict[str, Any]:
        known = {"protocol": PROTOCOL, "number": self.number, "pid": os.getpid(), "slot": self._slot}
        said = [word.partition(" ")[0] for word in self._said]
        return known | {"said": said, "draining": self._draining, "care": self._care}

    def _write(self, word: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self.fd, word.encode() + b"\n")

    def _arm(self) -> None:
        """The loop may be stuck in a blocking call: a thread ends the process regardless."""
        if not self._armed:
            self._armed = True
            deadline = threading.Timer(self.drain + 10, os._exit, (STUCK,))
            deadline.daemon = True
            deadline.start()
