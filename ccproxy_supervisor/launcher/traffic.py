"""What goes through the public door, counted for the supervisor: told in a header of every answer to a liveness probe."""

from __future__ import annotations

import time
from typing import Any

HEADER = b"ccproxy-traffic"
PROBE = "/health/liveliness"
COMPLETIONS = ("/completions", "/messages", "/responses")  # how the paths end on which clients wait for tokens
FORGOTTEN = 60.0  # seconds: a client that gave up and asks again by then has been waiting all along


class Traffic:
    """*taken*: connections. *inside*: completions. Of these, `waiting` says for how long none has gone on."""

    def __init__(self) -> None:
        self.taken = self.inside = 0
        self._since = self._left = time.monotonic()

    @property
    def waiting(self) -> float:
        """Seconds since a completion was answered, or a piece of one, while there are some; 0 without any."""
        return time.monotonic() - self._since if self.inside else 0.0

    def __str__(self) -> str:
        return f"taken={self.taken} inside={self.inside} waiting={self.waiting:.1f}"

    def probed(self, app: Any) -> Any:
        """*app*, whose liveness probe tells all this."""

        async def told(scope: Any, receive: Any, send: Any) -> None:
            async def with_header(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", ()), (HEADER, str(self).encode())]
                await send(message)

            probe = scope["type"] == "http" and scope["path"] == PROBE
            await app(scope, receive, with_header if probe else send)

        return told

    def counted(self, app: Any) -> Any:
        """*app*, whose completions are counted. An answer that went wrong is no sign that others, which wait, go on."""

        async def passed(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(COMPLETIONS):
                await app(scope, receive, send)
                return
            well = False

            async def heard(message: Any) -> None:
                nonlocal well
                if message["type"] == "http.response.start":
                    well = message["status"] < 300
                elif well or self.inside == 1:
                    self._since = time.monotonic()
                await send(message)

            self._enter()
            try:
                await app(scope, receive, heard)
            finally:
                self._leave()

        return passed

    def accepting(self, protocol: type) -> type:
        """uvicorn's *protocol*, whose connections are counted."""
        traffic = self

        class Counted(protocol):  # type: ignore[misc]
            def connection_made(self, transport: Any) -> None:
                traffic.taken += 1
                super().connection_made(transport)

        return Counted

    def _enter(self) -> None:
        now = time.monotonic()
        if not self.inside and now - self._left > FORGOTTEN:
            self._since = now
        self.inside += 1

    def _leave(self) -> None:
        self.inside -= 1
        self._left = time.monotonic()
