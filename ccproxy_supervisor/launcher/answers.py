"""Answers of our own on the public socket."""

from __future__ import annotations

import contextlib
import json
from typing import Any

#: What both APIs call an error of that status, where LiteLLM calls it nothing.
KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
}  # fmt: skip


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


def error_event(api: str, status: int, body: bytes) -> bytes:
    """An answer that is no stream, as *api* tells an error in one."""
    error = _error(status, body)
    if api == "messages":
        own = {"type": KINDS.get(status, "api_error"), "message": error["message"]}
        return b"event: error\ndata: %b\n\n" % json.dumps({"type": "error", "error": own}).encode()
    if api == "responses":  # documented flat; what OpenAI sends, and its SDKs raise, has it in `error`
        flat = {key: error[key] for key in ("code", "message", "param")}
        whole = {"type": "error", **flat, "sequence_number": 0, "error": error}
        return b"event: error\ndata: %b\n\n" % json.dumps(whole).encode()
    return b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"error": error}).encode()


def _error(status: int, body: bytes) -> dict[str, Any]:
    body = next(
        (line[5:] for line in body.splitlines() if line.startswith(b"data:")), body
    )  # told as an event, with a status
    words: Any = body.decode(errors="replace").strip() or f"answered {status} without a word"
    if status < 400:
        words = "The answer came whole, not as a stream, when the stream had begun already."
    said: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(body)
    for key in ("detail", "error"):  # FastAPI's own, and the APIs'
        said = said.get(key, said) if isinstance(said, dict) else said
    fault = {"message": words, "type": KINDS.get(status, "api_error"), "param": None, "code": str(status)}
    if status >= 400 and isinstance(said, dict) and isinstance(said.get("message"), str) and said["message"]:
        return {**fault, **said}
    return {**fault, "message": said} if status >= 400 and isinstance(said, str) and said else fault
