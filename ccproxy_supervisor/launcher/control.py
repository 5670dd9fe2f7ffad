"""The conversation with the supervisor, and signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading

STUCK = 70  # exit status


class Control:
    """Orders from the supervisor and from signals; they may come long before there is a loop."""

    def __init__(self, fd: int, drain: float) -> None:
        self.fd, self.drain, self.cut = fd, drain, 0
        self.loop: asyncio.AbstractEventLoop | None = None
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
        word, _, seconds = order.partition(" ")
        if word == "drain":
            self.drain = float(seconds or self.drain)
            self._arm()
        if self.loop is None:
            if word == "drain":
                os._exit(0)  # nothing served yet, nothing to drain
            self.activated.set()
            return
        event = self.activated if word == "activate" else self.leaving
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving already
            self.loop.call_soon_threadsafe(event.set)

    def _read(self) -> None:
        buffer = b""
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            if not data:
                return self.obey("drain")
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self.obey(line.decode())

    def _arm(self) -> None:
        """The loop may be stuck in a blocking call: a thread ends the process regardless."""
        if not self._armed:
            self._armed = True
            deadline = threading.Timer(self.drain + 10, os._exit, (STUCK,))
            deadline.daemon = True
            deadline.start()
