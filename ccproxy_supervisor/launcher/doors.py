"""What stands before the application: a private and a public door."""

from __future__ import annotations

import asyncio
from typing import Any

from .answers import answer, forget, unauthorized
from .control import Control
from .gate import Gate
from .guard import refuses
from .guests import KEY

LARGEST = 64 << 20  # bytes that are read of a refused request


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
    """The application behind the shared listener. `/health` is answered here, at no cost: LiteLLM's own, for which it
    generates with every model, is left with a query, and on the private socket.

    Connections are kept until the worker leaves, or one has had its share: `Connection: close` tells the client, on an
    answer, before it can send another request. *leaving* is set by who stops accepting.
    """

    def __init__(self, private: Private, control: Control) -> None:
        self.private, self.control = private, control
        self.gate = Gate(private.app, lambda: control.limits)
        self.leaving = False

    async def _answers(self, scope: Any, receive: Any, send: Any) -> bool:
        """Answer what needs no LiteLLM, if it is that."""
        if scope["path"] == "/health" and scope["method"] in ("GET", "HEAD") and not scope["query_string"]:
            health = self.control.health
            await answer(scope, send, health.status, health.facts(), (b"cache-control", b"no-store"))
        elif reason := refuses(scope):
            await forget(receive, LARGEST)
            document = unauthorized(scope["path"], reason)
            await answer(scope, send, 401, document, (b"x-should-retry", b"false"), (b"www-authenticate", b"Bearer"))
        else:
            return False
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        state = scope["state"] = {**self.private.state, **(scope.get("state") or {})}
        guest = state.pop(KEY, None)

        async def tell(message: Any) -> None:
            if message["type"] == "http.response.start" and (self.leaving or guest is None or guest.spent):
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        if scope["type"] == "http" and await self._answers(scope, receive, tell):
            return
        try:
            await self.gate(scope, receive, tell if scope["type"] == "http" else send)
        except asyncio.CancelledError:
            self.control.cut += 1
            raise
