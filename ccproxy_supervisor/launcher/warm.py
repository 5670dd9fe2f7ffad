"""What the first requests would block the loop for, over a second, done before there are any. It must call nobody: no request
goes in that LiteLLM could route, for where a model is named `*` every name is routed, and no callback hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from typing import Any

PATHS = ("/v1/messages", "/v1/chat/completions")
#: What LiteLLM imports in the middle of its first requests, plain and streamed. One that is gone is no loss.
MODULES = (
    *("anyio._backends._asyncio", "litellm.litellm_core_utils.default_encoding", "litellm.experimental_mcp_client"),
    *("litellm.proxy._experimental.mcp_server.mcp_server_manager", "litellm.proxy.guardrails.anthropic_sse"),
    *("litellm.proxy._experimental.mcp_server.auth.user_api_key_auth_mcp", "litellm.integrations.shadow_eval_logger"),
    *("litellm.integrations.websearch_interception", "litellm.types.proxy.litellm_pre_call_utils"),
    *("litellm.llms.anthropic.pass_through.messages.streaming_iterator", "litellm_enterprise.proxy.auth.route_checks"),
    *("litellm.types.litellm_core_utils.streaming_chunk_builder_utils", "litellm.proxy.anthropic_endpoints.endpoints"),
    *("litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic", "litellm.responses.mcp.litellm_proxy_mcp_handler"),
)


async def warm_up(app: Any, state: dict[str, Any]) -> None:
    logging.disable(logging.CRITICAL)
    load()
    for path in PATHS:
        with contextlib.suppress(Exception):  # whatever it says, the routes are made now
            await asyncio.wait_for(knock(app, path, state), 10)
    logging.disable(logging.NOTSET)


def load() -> None:
    for name in MODULES:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    with contextlib.suppress(Exception):
        from litellm import token_counter

        token_counter(
            model="gpt-4", text="hi"
        )  # the tokenizer that is in the package, and stands in for all unknown ones


async def knock(app: Any, path: str, state: dict[str, Any]) -> None:
    """Ask with a method that no route has: LiteLLM makes the routes of *path* and says 405, before any code of theirs."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "TRACE", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0), "state": dict(state),
    }  # fmt: skip
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return body.pop() if body else await asyncio.Future()

    async def send(message: Any) -> None:
        pass

    await app(scope, receive, send)
