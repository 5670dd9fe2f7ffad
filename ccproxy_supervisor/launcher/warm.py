"""The first requests, made in-process: what they load would block the loop under a real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from typing import Any

WARM_UP = {"model": "ccproxy-warm-up", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}], "no-log": True}


async def warm_up(app: Any, state: dict[str, Any]) -> None:
    """Ask in-process for a model that does not exist: loads what the first real request would block the loop for
    (over a second), and calls nobody."""
    key = os.environ.get("LITELLM_MASTER_KEY", "none")
    headers = [(b"content-type", b"application/json"), (b"x-api-key", key.encode()), (b"host", b"localhost")]
    body = [{"type": "http.request", "body": json.dumps(WARM_UP).encode(), "more_body": False}]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/messages", "raw_path": b"/v1/messages", "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0), "state": dict(state),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return body.pop() if body else await asyncio.Future()

    async def send(message: Any) -> None:
        pass

    logging.disable(logging.CRITICAL)
    for part in (app(scope, receive, send), stream_words()):
        with contextlib.suppress(Exception):  # whatever it says, the modules are loaded now
            await asyncio.wait_for(part, 10)
    logging.disable(logging.NOTSET)


async def stream_words() -> None:
    """LiteLLM as a library, mocked, told to tell no callback: loads its tokenizer and what streams need."""
    from litellm import acompletion

    words = {"model": "hosted_vllm/warm-up", "messages": WARM_UP["messages"], "mock_response": "hi", "api_key": "none"}
    async for _ in await acompletion(**words, stream=True, **{"no-log": True}):
        pass
