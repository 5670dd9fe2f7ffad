"""Who may pass the public door: LiteLLM without a database answers 500 to a request without its key and 400 to a wrong one."""

from __future__ import annotations

import hmac
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

#: LiteLLM's order: the first that is there is the one that counts.
HEADERS = (
    *(b"litellm_user_api_key", b"x-litellm-api-key", b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key"),
    b"ocp-apim-subscription-key",
)
SPELLED = re.compile(rb"(?:(?:[Bb]earer|Basic) |AWS4-HMAC-SHA256 .*?Credential=(?:Bearer\s+)?)(.*)", re.DOTALL)
#: What LiteLLM leaves open, or guards in its own way: MCP, pages and their parts, logins, probes. All else needs the key.
OPEN = re.compile(
    rb"/|/health/(live(li)?ness|readiness|drain)|/(robots\.txt|favicon\.ico|routes|test|config/yaml|openapi\.json|v[123]/(traces|logs))"
    rb"|/(ui|_next|litellm-asset-prefix|docs|redoc|swagger|get_image|get_logo_url|get_favicon|get/ui_(theme_)?settings|public|sso|login|fallback"
    rb"|v[23]/login|onboarding|litellm/\.well-known|\.well-known|moyai|lens|liteadmin|mcp)(/.*)?"
    rb"|(/.*)?/(mcp|authorize|token|register|callback)(/.*)?",
    re.DOTALL,
)
#: With any of these LiteLLM accepts other keys than the master key.
OTHER_KEYS = (
    *("custom_auth", "enable_jwt_auth", "enable_oauth2_auth", "enable_oauth2_proxy_auth", "litellm_key_header_name"),
    *("database_url", "public_routes", "pass_through_endpoints"),
)


def refuses(scope: Mapping[str, Any]) -> str:
    """Say why a request is refused; empty when it is let through."""
    proxy = sys.modules.get("litellm.proxy.proxy_server")
    key = getattr(proxy, "master_key", None)
    if not isinstance(key, str) or not key:
        return ""  # open to all
    told = presented(scope)
    if told is not None and hmac.compare_digest(told, key.encode()):
        return ""
    path = scope["path"].encode()
    if scope["method"] == "OPTIONS" or OPEN.fullmatch(path) or keeps_other_keys(proxy):
        return ""
    return "No API key was sent." if told is None else "The API key is not valid."


def presented(scope: Mapping[str, Any]) -> bytes | None:
    """The key that a request brings, as LiteLLM looks for it; empty when it is not spelled as one."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, value)
    for name in HEADERS:
        if value := headers.get(name):
            if spelled := SPELLED.fullmatch(value):
                return spelled[1].partition(b"/")[0] if value.startswith(b"AWS4") else spelled[1]
            return b"" if name == b"authorization" else value
    query = re.search(rb"(?:^|&)key=([^&]*)", scope["query_string"])  # Google's clients
    return query[1] if query else None


def keeps_other_keys(proxy: Any) -> bool:
    settings = getattr(proxy, "general_settings", None) or {}
    return (
        getattr(proxy, "prisma_client", None) is not None
        or getattr(proxy, "user_custom_auth", None) is not None
        or any(os.environ.get(name) for name in ("DATABASE_URL", "DIRECT_URL"))
        or any(settings.get(name) for name in OTHER_KEYS)
    )
