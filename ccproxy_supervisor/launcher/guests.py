"""Connections of clients: kept for their next requests, moved on now and then, seen off when the worker leaves."""

from __future__ import annotations

import select
from typing import Any

KEPT = 125  # seconds a silent connection is kept: longer than clients keep theirs (Traefik and Go 90), so that they close it
ANSWERS, AGE = 100, 10.0  # and seconds, after which an answer is a connection's last: it may lead to another worker
QUIET = 2.0  # seconds a connection must have been silent to be closed while we leave; the most we wait for it
KEY = "ccproxy_guest"  # in the state of a request's scope


def guest_class(kind: Any) -> Any:
    """Make of uvicorn's protocol class one that knows how its connection is used."""

    class Guest(kind):  # type: ignore[misc]
        def __init__(self, *words: Any, **more: Any) -> None:
            super().__init__(*words, **more)
            self.app_state: dict[str, Any] = {**self.app_state, KEY: self}
            self.since = self.quiet_since = self.loop.time()
            self.busy, self.answers = False, 0

        def data_received(self, data: bytes) -> None:
            self.busy = True
            super().data_received(data)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.answers += 1
            self.busy, self.quiet_since = bool(getattr(self, "pipeline", ())), self.loop.time()

        @property
        def spent(self) -> bool:
            """Whether the answer that is being given should be the last."""
            return self.answers + 1 >= ANSWERS or self.loop.time() - self.since > AGE

        @property
        def idle(self) -> bool:
            """Whether uvicorn would close it when it shuts down: no request of it has been read whole."""
            return self.cycle is None or self.cycle.response_complete

        @property
        def silent(self) -> bool:
            """Whether it may be closed: nothing has come for a while, nor is anything waiting to be read."""
            if self.busy or self.loop.time() - self.quiet_since < QUIET:
                return False
            peer = self.transport.get_extra_info("socket")
            return peer is None or peer.fileno() < 0 or not _readable(peer.fileno())

    return Guest


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
