"""The status page: one file with its own style and script, and headers that let nothing else in."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files


def page() -> tuple[bytes, dict[str, str]]:
    """Read the page; returns it with its headers. The policy names its style and script by their hashes."""
    body = files("ccproxy_supervisor").joinpath("data/page/status.html").read_bytes()
    policy = {
        "default-src": "'none'",
        "style-src": _hashes(body, "style"),
        "script-src": _hashes(body, "script"),
        "img-src": "data:",  # the icon
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",  # so that no text of ours can ever be taken for markup
        "trusted-types": "'none'",
    }
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Referrer-Policy": "no-referrer",
    }
    return body, headers


def _hashes(body: bytes, tag: str) -> str:
    inside = re.findall(rb"<%b>(.*?)</%b>" % (tag.encode(), tag.encode()), body, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inside)
