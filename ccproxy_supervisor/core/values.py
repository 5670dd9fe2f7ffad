"""What a text among the settings must look like; each check raises ValueError."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

_OURS = {
    "CONFIG_FILE_PATH": "set proxy.config",
    "WORKER_CONFIG": "set proxy.config",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "set proxy.auth",
}
REFERENCE = "os.environ/"  # as LiteLLM's config names a secret
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_SPECIFIER = r"(?:==|!=|~=|>=|<=|>|<)[A-Za-z0-9.*+!_]+"
VERSION = r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?"  # as a package index spells it


def text(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return no_nul(value)


def no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain a NUL character")
    return value


def yaml_file(value: str) -> str:
    """LiteLLM takes any other name for no configuration at all."""
    if not value.lower().endswith((".yaml", ".yml")):
        raise ValueError("must end in .yaml or .yml; LiteLLM ignores other files")
    return text(value)


def host(value: str) -> str:
    """An address or a host name, without port, brackets or scheme."""
    if not is_address(value) and not re.fullmatch(r"(?!-)[A-Za-z0-9._-]{1,253}", value):
        raise ValueError("must be an address such as 127.0.0.1, or a host name, without port or brackets")
    return value


def version(value: str) -> str:
    """One release of a package: a range or a pattern would be equal to none."""
    if not re.fullmatch(VERSION, value, re.ASCII):
        raise ValueError(f"must be one version such as 1.82.7, not {value[:40]!r}")
    return value


def package(value: str) -> str:
    """A package by its name, and which versions of it: a URL or a path could bring anything."""
    if not re.fullmatch(rf"{_NAME}(\[{_NAME}(,{_NAME})*\])?({_SPECIFIER}(,{_SPECIFIER})*)?", value, re.ASCII):
        raise ValueError(
            f"must be the name of a package, as prometheus-client or prometheus-client>=0.20,<1, not {value[:40]!r}"
        )
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


def reference(value: str) -> str:
    """A secret by the name it has in a file that is ours alone."""
    if not re.fullmatch(rf"{re.escape(REFERENCE)}[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError(f"is a secret: write {REFERENCE}NAME, and NAME=… in the file of notify.env_file")
    return value


def target(value: str) -> str:
    """A URL, or the name of one as `reference`."""
    if value.startswith(REFERENCE):
        return reference(value)
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or not value.isascii() or re.search(r"\s", value):
        raise ValueError(f"must be a URL such as https://ntfy.sh/my-topic, or {REFERENCE}NAME")
    return value


def quiet(value: str) -> str:
    quiet_hours(value)
    return value


def quiet_hours(value: str) -> tuple[int, int]:
    """Read `22:00-07:00` as two minutes of the day."""
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", value, re.ASCII)
    begin, end = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])) if found else (0, 0)
    if begin == end:
        raise ValueError("must be two times of the day such as 22:00-07:00")
    return begin, end


def variable(name: str) -> str:
    """The name of an environment variable that is the operator's to set."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("is not the name of an environment variable")
    if name in _OURS:
        raise ValueError(f"belongs to the supervisor; {_OURS[name]}")
    return name


def own_variable(name: str) -> str:
    """As `variable`, in a file that is not for secrets."""
    if name == "LITELLM_MASTER_KEY":
        raise ValueError("is a secret; set proxy.auth: master-key, and a key of your own in the file of proxy.env_file")
    return variable(name)


def is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def is_loopback(value: str) -> bool:
    """Whether only this machine can reach *value*."""
    return value == "localhost" or (is_address(value) and ip_address(value).is_loopback)


def switch(value: Any) -> Any:
    """YAML takes `on` and `off` for true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def url_path(value: str) -> str:
    """A path of the proxy's, or all below one (`/v1/audio/*`)."""
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+(/\*)?", value) or "/." in value:
        raise ValueError(f"must be a path such as /v1/images/generations, or /v1/audio/*, not {value[:40]!r}")
    return value
