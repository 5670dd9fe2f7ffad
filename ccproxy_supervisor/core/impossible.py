"""Settings that are each fine and together cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ccproxy_supervisor.core.contacts import NEEDS, SECRET_URL
from ccproxy_supervisor.core.model import LOGS
from ccproxy_supervisor.core.units import show_duration, show_size
from ccproxy_supervisor.core.values import REFERENCE, is_address, is_loopback

if TYPE_CHECKING:
    from ccproxy_supervisor.core.settings import Settings

#: The setting to blame, the others that take part, what is wrong.
Contradiction = tuple[str, tuple[str, ...], str]


def impossible(settings: Settings) -> Iterator[Contradiction]:
    """Find what contradicts itself."""
    yield from _addresses(settings)
    restart, logs = settings.restart, settings.logs
    if restart.first_delay > restart.longest_delay:
        longest = show_duration(restart.longest_delay)
        message = f"{show_duration(restart.first_delay)} is more than restart.longest_delay ({longest})"
        yield "restart.first_delay", ("restart.longest_delay",), message
    if logs.max_total < len(LOGS) * logs.max_size:
        message = (
            f"{show_size(logs.max_total)} is less than {len(LOGS)} files of logs.max_size ({show_size(logs.max_size)})"
        )
        yield "logs.max_total", ("logs.max_size",), message
    for number, target in enumerate(settings.notify.targets, start=1):
        needed = NEEDS[target.kind]
        for name in (
            name for name in ("url", "token", "user", "command") if name in needed and not getattr(target, name)
        ):
            yield "notify.targets", (), f"target {number} ({target.kind}) needs {name}"
        if target.kind in SECRET_URL and target.url and not target.url.startswith(REFERENCE):
            message = f"target {number} ({target.kind}): its url is a secret; write {REFERENCE}NAME"
            yield "notify.targets", (), f"{message}, and NAME=… in the file of notify.env_file"


def _addresses(settings: Settings) -> Iterator[Contradiction]:
    proxy, admin = settings.proxy, settings.admin
    if not is_loopback(proxy.host) and not proxy.allow_remote:
        message = f"{proxy.host} is not a loopback address; use 127.0.0.1, or set proxy.allow_remote: true"
        yield "proxy.host", ("proxy.allow_remote",), message
    elif not is_loopback(proxy.host) and proxy.auth == "open":
        message = f"open serves anybody who can reach {proxy.host}; set proxy.auth: master-key"
        yield "proxy.auth", ("proxy.host", "proxy.allow_remote"), message
    if not is_loopback(admin.host):
        yield "admin.host", (), f"{admin.host} is not a loopback address; use 127.0.0.1"
    distinct = is_address(proxy.host) and is_address(admin.host) and is_loopback(proxy.host)
    if proxy.port == admin.port and not (distinct and proxy.host != admin.host):
        yield "admin.port", ("proxy.port", "admin.host", "proxy.host"), f"{admin.port} is taken by proxy.port"
