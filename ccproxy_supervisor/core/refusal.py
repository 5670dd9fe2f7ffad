"""What a client is told that is not let through, in the shape that its API speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANTHROPIC = {401: "authentication_error", 404: "not_found_error"}
OPENAI = {401: "invalid_api_key", 404: "unknown_url"}


def refusal(status: int, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Say why a request for *path* ended with *status*, 401 or 404; *headers* have lower-case names."""
    said = (
        "No valid token. Send yours as Authorization: Bearer TOKEN, or as x-api-key; the owner of this proxy makes one with: "
        "ccproxy-supervisor token add NAME"
    )
    if status == 404:
        said = f"{path[:100]} is not offered here; the owner of this proxy may add it to traefik.paths"
    if "/v1/messages" in path or "anthropic-version" in headers:
        return {"type": "error", "error": {"type": ANTHROPIC[status], "message": said}}
    return {"error": {"message": said, "type": "invalid_request_error", "param": None, "code": OPENAI[status]}}
