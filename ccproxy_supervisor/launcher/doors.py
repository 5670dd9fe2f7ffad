"""What stands before the application: a private and a public door."""

from __future__ import annotations

import asyncio
from typing import Any

from .control import Control


class Private:
    """The application as it is; remembers the lifespan state it made."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.state: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.state = scope.setdefault("state", {})
        await self.app(scope, receive, send)


class Public:
    """The application behind the shared listener.

    `Connection: close` on every answer: a client or Traefik must not keep a connection to a worker that may drain,
    and each new connection is free to go to whichever worker accepts it.
    """

    def __init__(self, private: Private, control: Control) -> None:
        self.private, self.control = private, control

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def close_after(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        scope["state"] = {**self.private.state, **(scope.get("state") or {})}
        try:
            await self.private.app(scope, receive, close_after if scope["type"] == "http" else send)
        except asyncio.CancelledError:
            self.control.cut += 1
            raise
