"""Signals: heard in whatever thread they arrive, from the first moment on, and none is lost between two images of this process."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import anyio

from ccproxy_supervisor.core.images import HEEDED


class Signals:
    """The interpreter writes the number of each into a socket: asyncio's own receiver gives the signals back their default,
    which is death, as soon as nobody listens, and does so before the process has become another image."""

    def __init__(self, left: int = -1) -> None:
        """*left* is what the last image has not read."""
        self._out, self._in = socket.socketpair()
        for end in (self._out, self._in):
            end.setblocking(False)
        self._still = False
        with suppress(OSError):
            while left >= 0 and (more := os.read(left, 4096)):
                self._in.send(more)

    @property
    def fd(self) -> int:
        """Where those are that nobody has heeded, for the next image."""
        return self._out.fileno()

    async def heard(self) -> AsyncIterator[signal.Signals]:
        """Each, one after the other; for ever, or until they are to be `kept`."""
        while True:
            await anyio.wait_readable(self._out)
            if self._still:
                return
            yield signal.Signals(self._out.recv(1)[0])

    def keep(self) -> None:
        """From now on they are for the next image."""
        self._still = True

    def again(self, number: signal.Signals) -> None:
        """Have it heard once more."""
        self._in.send(bytes([number]))

    @contextmanager
    def hearing(self) -> Iterator[None]:
        before = {number: signal.signal(number, lambda *_: None) for number in HEEDED}
        wakeup = signal.set_wakeup_fd(self._in.fileno(), warn_on_full_buffer=False)
        block(False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


def block(blocked: bool) -> None:
    """Blocked ones wait, also until another image of this process unblocks them."""
    signal.pthread_sigmask(signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK, HEEDED)
