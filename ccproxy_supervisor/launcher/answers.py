"""Answers of our own on the public socket."""

from __future__ import annotations

import json
from typing import Any


async def answer(scope: Any, send: Any, status: int, document: Any, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(document).encode() + b"\n"
    facts = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*facts, *headers]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def unauthorized(path: str, reason: str) -> dict[str, Any]:
    """A 401 as the API of *path* spells it."""
    said = f"{reason} Send the proxy's key as Authorization: Bearer, or as x-api-key."
    if "/v1/messages" in path:
        return {"type": "error", "error": {"type": "authentication_error", "message": said}}
    error = {"message": said, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    return {"error": error}


async def forget(receive: Any, limit: int) -> None:
    """Read on to the end of a request that is refused, at most *limit* bytes: closing on unread bytes would reset the
    connection, and the answer with it."""
    more = True
    while more and limit > 0:
        message = await receive()
        limit -= len(message.get("body", b""))
        more = message.get("more_body", False)
