"""The admin pages on loopback, which change nothing, and the orders on the control socket."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from ipaddress import ip_address
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ORDERS = ("reload", "restart", "stop", "rotate", "canary")
LARGEST_ORDER = 64 << 10  # bytes
PATIENCE = 5.0  # seconds for an order's body
CLOSE = {"Connection": "close"}

Facts = Callable[[], dict[str, Any]]
Order = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


def admin_app(
    health: Facts,
    status: Facts,
    metrics: Callable[[str], tuple[bytes, str]],
    allowed: Callable[[], Collection[str]],
    page: tuple[bytes, Mapping[str, str]] | None = None,
) -> ASGIApp:
    """Build the read-only app. *metrics* takes an Accept header, *allowed* names the hosts besides loopback, and *page* has its headers."""

    async def show_metrics(request: Request) -> Response:
        body, content_type = metrics(",".join(request.headers.getlist("accept")))
        return Response(body, media_type=None, headers={"Content-Type": content_type})

    async def show_page(_: Request) -> Response:
        return Response(page[0], headers=page[1]) if page else RedirectResponse("/status", 302)

    app = _app([*_facts(health, status), _get("/metrics", show_metrics), _get("/", show_page)])
    return Guard(app, allowed)


def control_app(health: Facts, status: Facts, order: Order) -> ASGIApp:
    """Build the app of the control socket. *order* raises `ValueError` for what cannot be asked for."""

    async def take(request: Request) -> Response:
        name = request.scope["path"][1:]
        try:
            return _json(await order(name, await _body(request)))
        except ValueError as error:
            raise HTTPException(400, f"cannot {name}: {error}") from None

    return Guard(_app([*_facts(health, status), *(Route(f"/{name}", take, methods=["POST"]) for name in ORDERS)]))


class Guard:
    """Answers 421 to a Host that is neither loopback nor *allowed* (a name rebound to us), and marks what leaves."""

    MARKS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

    def __init__(self, app: ASGIApp, allowed: Callable[[], Collection[str]] | None = None) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.MARKS]
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if self._allowed is None or host_allowed(host, self._allowed()):
            await self._app(scope, receive, marked)
        else:
            refusal = _json({"error": "cannot answer for this Host; add it to admin.allowed_hosts"}, 421)
            await refusal(scope, receive, marked)


def host_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host header, with or without port, is a loopback name or address, or one of *allowed*."""
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?", host)
    name = match[1].strip("[]").lower() if match else ""
    if name == "localhost" or name in {other.lower() for other in allowed}:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _facts(health: Facts, status: Facts) -> list[Route]:
    async def show_health(_: Request) -> Response:
        facts = health()
        return _json(facts, 200 if facts["status"] in ("healthy", "degraded") else 503)

    async def show_status(_: Request) -> Response:
        return _json(status())

    return [_get("/health", show_health), _get("/status", show_status)]


def _get(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    return Route(path, endpoint, methods=["GET"])


def _app(routes: list[Route]) -> Starlette:
    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json({"error": error.detail}, error.status_code, error.headers)

    async def fail(_: Request, error: Exception) -> Response:
        return _json({"error": f"cannot answer: {type(error).__name__}, a bug; see supervisor.log"}, 500)

    app = Starlette(routes=routes, exception_handlers={HTTPException: refuse, Exception: fail})
    app.router.redirect_slashes = False
    return app


async def _body(request: Request) -> dict[str, Any]:
    """Read an order's JSON object; none is an empty one."""
    data = bytearray()
    try:
        with anyio.fail_after(PATIENCE):
            async for chunk in request.stream():
                data += chunk
                if len(data) > LARGEST_ORDER:
                    raise HTTPException(413, f"body larger than {LARGEST_ORDER} bytes", CLOSE)
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, f"body not complete in {PATIENCE:g} s", CLOSE) from None
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise HTTPException(400, "body is not JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "body is not a JSON object")
    return body


def _json(facts: dict[str, Any], status: int = 200, headers: Any = None) -> Response:
    return Response(json.dumps(facts).encode() + b"\n", status, headers, "application/json")
