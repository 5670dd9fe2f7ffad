"""Signs of life for who waits for a stream: proxies and clients on the way take a long silence for death."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from .answers import error_event
from .meter import api_of

COMMENT, PING = b": keep-alive\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'
SIGNS = {"chat": COMMENT, "completions": COMMENT, "responses": COMMENT, "messages": PING}
#: Such a connection is not kept: by now the worker may be leaving, or the connection has had its share.
HEAD = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"connection", b"close")]
LARGEST = 64 << 10  # bytes that are read of an answer that is no stream
STREAM = "ccproxy_stream"  # in a request's scope: whether it asks for a stream, from who has read it before LiteLLM


def streams(scope: Any) -> bool | None:
    """Whether a stream is asked for; None until somebody has read the request. LiteLLM leaves what it has read there."""
    with contextlib.suppress(LookupError, TypeError, AttributeError):
        return scope["parsed_body"][1].get("stream") is True
    known: bool | None = scope.get(STREAM)
    return known


class Pulse:
    """One request: after *every* so many seconds without an answer a sign, if it asks for a stream. The first one begins
    the answer, and what LiteLLM then begins goes on as part of it."""

    def __init__(self, api: str, scope: Any, send: Any, every: float) -> None:
        self._api, self._scope, self._send, self._every = api, scope, send, every
        self._begun = self._passes = self._told = False
        self._status, self._body = 500, b"Internal Server Error"
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | asyncio.Task[None] = self._loop.call_later(every, self._due)

    def _due(self) -> None:
        if asked := streams(self._scope):
            self._next = self._loop.create_task(self._beat())
        elif asked is None:
            self._next = self._loop.call_later(self._every, self._due)

    async def _beat(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": HEAD})
        self._begun = True
        while True:
            await self._send({"type": "http.response.body", "body": SIGNS[self._api], "more_body": True})
            await asyncio.sleep(self._every)

    async def send(self, message: Any) -> None:
        """Pass on what LiteLLM answers; once we have begun, without its head, and what is no stream as an error in ours."""
        self._next.cancel()  # a sign that waits for room in the connection has not been written, and never will be
        if not self._begun or (self._passes and message["type"] == "http.response.body"):
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._status, self._body = message["status"], b""
            kind = dict(message.get("headers", ())).get(b"content-type", b"")
            self._passes = self._status == 200 and kind.startswith(b"text/event-stream")
        else:
            self._body += message.get("body", b"")[: LARGEST - len(self._body)]
            if not message.get("more_body", False):
                await self._tell()

    async def end(self) -> None:
        """LiteLLM has returned, or broken down."""
        self._next.cancel()
        if self._begun and not self._passes and not self._told:
            await self._tell()

    async def _tell(self) -> None:
        self._told = True
        await self._send({"type": "http.response.body", "body": error_event(self._api, self._status, self._body)})


def kept_alive(app: Any, told: Callable[[], float | None]) -> Any:
    """*app*, whose clients hear that they are waited on; *told* says after how many seconds of silence, None: never."""

    async def passed(scope: Any, receive: Any, send: Any) -> None:
        every = told()
        api = api_of(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else ""
        if every is None or api not in SIGNS:
            await app(scope, receive, send)
            return
        pulse = Pulse(api, scope, send, every)
        try:
            await app(scope, receive, pulse.send)
        finally:
            await pulse.end()

    return passed
