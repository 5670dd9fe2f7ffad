"""Who may pass when only so many of a model's requests are let in at once: the rest wait in line, the clients in turn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .answers import answer
from .meter import Names, Request, current
from .pulse import STREAM
from .tally import OTHER

LONGEST_RETRY = 60  # seconds
WEIGHT = 0.2  # of the newest of how long requests take


@dataclass(frozen=True)
class Limits:
    """*models*: so many at once, by name or pattern; *client*: so many of these for one client; *queue*: so many more wait, for
    *wait* seconds at the most."""

    models: dict[str, int] = field(default_factory=dict)
    client: int | None = None
    queue: int = 0
    wait: float = 0.0


class Line:
    """The requests of one model: *most* at once, and of these *share* for one client."""

    def __init__(self) -> None:
        self.most = 1
        self.share: int | None = None
        self.inside: Counter[str] = Counter()
        self.takes = 1.0  # seconds, about
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of their turns

    @property
    def length(self) -> int:
        return sum(map(len, self._waiting.values()))

    def enter(self, client: str) -> bool:
        """Go in if there is room. Nobody who waits could: whoever leaves lets them in."""
        room = self.inside.total() < self.most and (self.share is None or self.inside[client] < self.share)
        if room:
            self.inside[client] += 1
        return room

    def join(self, client: str) -> asyncio.Future[None]:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(place)
        return place

    def leave(self, client: str, place: asyncio.Future[None]) -> None:
        """Wait no longer."""
        places = self._waiting[client]
        places.remove(place)
        if not places:
            del self._waiting[client]

    def advance(self) -> None:
        """Let in who is next; a client that was let in has its turn again after all others."""
        while client := next((name for name in self._waiting if self.enter(name)), None):
            places = self._waiting.pop(client)
            places.popleft().set_result(None)
            if places:
                self._waiting[client] = places

    def out(self, client: str, seconds: float | None = None) -> None:
        """Make room, after *seconds* inside."""
        self.inside[client] -= 1
        if not self.inside[client]:
            del self.inside[client]
        if seconds is not None:
            self.takes += WEIGHT * (seconds - self.takes)
        self.advance()

    def retry(self) -> int:
        """Seconds after which there may be room."""
        return max(1, min(LONGEST_RETRY, math.ceil((self.length + 1) / self.most * self.takes)))


class Gate:
    """Stands before *app*; *told* gives the limits as the supervisor last told them."""

    def __init__(self, app: Any, told: Callable[[], dict[str, Any] | None]) -> None:
        self._app, self._told = app, told
        self._last: object = None
        self._limits, self._patterns = Limits(), Names()
        self._lines: dict[str, Line] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        limits, request = self._adopted(), current()
        if request is None or request.api == OTHER or not limits.models:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        asked, scope[STREAM] = model_of(body.text)
        name, limit = request.names(asked), limits.models.get(self._patterns(asked))
        if name == OTHER or limit is None:  # LiteLLM does not know it, or nobody set a limit
            await self._app(scope, body.again, send)
            return
        request.asks(asked)
        line = self._lines.setdefault(name, Line())
        line.most, line.share = limit, limits.client
        line.advance()  # there may be more room than before
        await self._pass(line, request, scope, body, send)

    def _adopted(self) -> Limits:
        told = self._told()
        if told is not self._last:
            self._last, self._limits = told, Limits(**(told or {}))
            self._patterns = Names(tuple(self._limits.models))
        return self._limits

    async def _pass(self, line: Line, request: Request, scope: Any, body: Body, send: Any) -> None:
        came = time.monotonic()
        if not line.enter(request.client) and not await self._admitted(line, request.client, body):
            if not body.gone:
                request.refused = True
                await _refuse(scope, send, line.retry(), request.api)
            return
        begun = time.monotonic()
        request.waited(begun - came)
        try:
            await self._app(scope, body.again, send)
        finally:
            line.out(request.client, time.monotonic() - begun)

    async def _admitted(self, line: Line, client: str, body: Body) -> bool:
        """Wait; False if it lasts too long, there is no room to wait, or the client goes away."""
        if line.length >= self._limits.queue:
            return False
        place, left = line.join(client), asyncio.ensure_future(body.departure())
        kept = False
        try:
            await asyncio.wait({place, left}, timeout=self._limits.wait, return_when=asyncio.FIRST_COMPLETED)
            kept = place.done() and not body.gone
        finally:
            left.cancel()
            if not place.done():
                line.leave(client, place)
            elif not kept:
                line.out(client)
        return kept


class Body:
    """A request's body, read already and handed on; and whether its client is still there."""

    def __init__(self, receive: Any, messages: deque[Any], *, gone: bool) -> None:
        self._receive, self._messages, self.gone = receive, messages, gone

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self._messages)

    async def again(self) -> Any:
        return self._messages.popleft() if self._messages else await self._receive()

    async def departure(self) -> None:
        """Return when the client has gone; nothing else can come after a body."""
        while not self.gone:
            self.gone = (await self._receive())["type"] == "http.disconnect"


async def _read(receive: Any) -> Body:
    messages: deque[Any] = deque()
    while True:
        messages.append(message := await receive())
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return Body(receive, messages, gone=message["type"] == "http.disconnect")


async def _refuse(scope: Any, send: Any, seconds: int, api: str) -> None:
    said = f"Too many requests wait for this model. Retry in {seconds} seconds."
    if api == "messages":
        document: Any = {"type": "error", "error": {"type": "rate_limit_error", "message": said}}
    else:
        words = {"type": "rate_limit_exceeded", "param": None, "code": "rate_limit_exceeded"}
        document = {"error": {"message": said, **words}}
    await answer(scope, send, 429, document, (b"retry-after", b"%d" % seconds))


def model_of(body: bytes) -> tuple[object, bool]:
    """The model that a body names, None where it is not read as JSON; and whether it asks for a stream."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict):
            return document.get("model"), document.get("stream") is True
    return None, False
