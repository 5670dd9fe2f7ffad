"""What a text among the settings must look like; each check raises ValueError."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit


def text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain a NUL character")
    return value


def host(value: str) -> str:
    """An address or a host name, without port, brackets or scheme."""
    if not is_address(value) and not re.fullmatch(r"(?!-)[A-Za-z0-9._-]{1,253}", value):
        raise ValueError("must be an address such as 127.0.0.1, or a host name, without port or brackets")
    return value


def url(value: str) -> str:
    """The root of an HTTP server."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not value.isascii():
        raise ValueError("must be a URL such as http://127.0.0.1:11434")
    if parts.username is not None or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError("must be a URL without user name, query or blanks")
    return value


def variables(value: dict[str, str]) -> dict[str, str]:
    """Environment variables a process can be given."""
    for name, content in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"cannot set {name!r}: not the name of an environment variable")
        if "\x00" in content:
            raise ValueError(f"cannot set {name}: its value contains a NUL character")
    return value


def is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def is_loopback(value: str) -> bool:
    """Whether only this machine can reach *value*."""
    return value == "localhost" or (is_address(value) and ip_address(value).is_loopback)
