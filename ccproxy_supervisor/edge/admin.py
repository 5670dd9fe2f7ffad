"""The admin pages on loopback, which change nothing, and the orders on the control socket."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio

from ccproxy_supervisor.core.asgi import App, Receive, Scope, Send
from ccproxy_supervisor.core.refusal import refusal
from ccproxy_supervisor.core.values import is_loopback

ORDERS = ("reload", "restart", "renew", "stop", "rotate", "canary")
LARGEST_ORDER = 64 << 10  # bytes
LONGEST_QUERY = 4096  # characters
PATIENCE = 5.0  # seconds for an order's body
CLOSE = {"Connection": "close"}
READ, WRITE = ("GET", "HEAD"), ("POST",)
MARKS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Facts = Callable[[], dict[str, Any]]
Order = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Request:
    """*headers* have lower-case names; one that is repeated is one list."""

    headers: Mapping[str, str]
    receive: Receive
    query: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 - it is an answer
    """A request that is answered with *status* and why."""

    def __init__(self, status: int, why: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.reply = _json({"error": why or HTTPStatus(status).phrase}, status, headers)


Page = Callable[[Request], Awaitable[Reply]]


def admin_app(
    health: Facts,
    status: Facts,
    metrics: Callable[[str], tuple[bytes, str]],
    allowed: Callable[[], Collection[str]],
    page: tuple[bytes, Mapping[str, str]] | None = None,
) -> App:
    """Build the read-only app. *metrics* takes an Accept header, *allowed* names the hosts besides loopback, and *page* has its headers."""

    async def show_metrics(request: Request) -> Reply:
        body, content_type = metrics(request.headers.get("accept", ""))
        return Reply(body, headers={"Content-Type": content_type})

    async def show_page(_: Request) -> Reply:
        return Reply(page[0], headers=page[1]) if page else Reply(b"", 302, {"Location": "/status"})

    pages = {**_facts(health, status), "/metrics": show_metrics, "/refusal": _refuse, "/": show_page}
    return Site(pages, {}, allowed)


def control_app(health: Facts, status: Facts, order: Order) -> App:
    """Build the app of the control socket. *order* raises `ValueError` for what cannot be asked for."""

    async def take(name: str, request: Request) -> Reply:
        try:
            return _json(await order(name, await _body(request)))
        except ValueError as error:
            raise Refused(400, f"cannot {name}: {error}") from None

    return Site(_facts(health, status), {f"/{name}": partial(take, name) for name in ORDERS})


class Site:
    """Answers 421 to a Host that is neither loopback nor *allowed* (a name rebound to us), and marks what leaves."""

    def __init__(
        self, shown: Mapping[str, Page], taken: Mapping[str, Page],
        allowed: Callable[[], Collection[str]] | None = None,
    ) -> None:  # fmt: skip
        self._pages: dict[str, tuple[tuple[str, ...], Page]] = {path: (READ, page) for path, page in shown.items()}
        self._pages |= {path: (WRITE, page) for path, page in taken.items()}
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._answer(scope, receive)
        except Refused as refusal:
            reply = refusal.reply
        except Exception as error:
            await _send(
                _json({"error": f"cannot answer: {type(error).__name__}, a bug; see supervisor.log"}, 500), send
            )
            raise
        await _send(reply, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            said = headers.get(key := name.decode("latin-1"))
            headers[key] = ",".join(filter(None, (said, value.decode("latin-1"))))
        if self._allowed is not None and not host_allowed(headers.get("host", ""), self._allowed()):
            raise Refused(421, "cannot answer for this Host; add it to admin.allowed_hosts")
        if (found := self._pages.get(scope["path"])) is None:
            raise Refused(404)
        methods, page = found
        if scope["method"] not in methods:
            raise Refused(405, headers={"Allow": ", ".join(methods)})
        return await page(Request(headers, receive, scope.get("query_string", b"").decode("latin-1")))


async def _refuse(request: Request) -> Reply:
    """Say for Traefik why it let somebody not in: it has no words of its own, and who asks is nobody it trusts."""
    asked = parse_qs(request.query[:LONGEST_QUERY])
    status = 404 if asked.get("status") == ["404"] else 401
    path = urlsplit("".join(asked.get("url", ()))).path
    return _json(refusal(status, path, request.headers), status)


def host_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host header, with or without port, is a loopback name or address, or one of *allowed*."""
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?", host)
    name = match[1].strip("[]").lower() if match else ""
    return is_loopback(name) or name in {other.lower() for other in allowed}


def _facts(health: Facts, status: Facts) -> dict[str, Page]:
    async def show_health(_: Request) -> Reply:
        facts = health()
        return _json(facts, 200 if facts["status"] in ("healthy", "degraded") else 503)

    async def show_status(_: Request) -> Reply:
        return _json(status())

    return {"/health": show_health, "/status": show_status}


async def _body(request: Request) -> dict[str, Any]:
    """Read an order's JSON object; none is an empty one."""
    data, more = bytearray(), True
    with anyio.move_on_after(PATIENCE):
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                break
            data += message["body"]
            more = message["more_body"]
            if len(data) > LARGEST_ORDER:
                raise Refused(413, f"body larger than {LARGEST_ORDER} bytes", CLOSE)
    if more:
        raise Refused(408, f"body not complete in {PATIENCE:g} s", CLOSE)
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise Refused(400, "body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "body is not a JSON object")
    return body


def _json(facts: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(json.dumps(facts).encode() + b"\n", status, {"Content-Type": "application/json", **(headers or {})})


async def _send(reply: Reply, send: Send) -> None:
    headers = {"Content-Length": str(len(reply.body)), **reply.headers, **MARKS}
    spelled = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": spelled})
    await send({"type": "http.response.body", "body": reply.body})
