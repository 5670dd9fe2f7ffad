"""Who is told, with the secrets that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.core.values import REFERENCE, quiet_hours

if TYPE_CHECKING:
    from ccproxy_supervisor.core.settings import Settings

PUSHOVER = "https://api.pushover.net/1/messages.json"
#: Of each kind, what it needs; and of these, what is a secret and must not stand in the settings.
NEEDS = {
    "webhook": ("url",), "slack": ("url",), "ntfy": ("url",), "pushover": ("token", "user"), "macos": (),
    "command": ("command",),
}  # fmt: skip
SECRET_URL = ("slack",)


@dataclass(frozen=True, slots=True)
class Contact:
    """A target of notices; *urgent*: quiet hours do not hold back that nobody is served."""

    kind: str
    url: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    command: tuple[str, ...] = ()
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Contacts:
    """*quiet*: from one minute of the day to another; *heartbeat*: the URL to ping every *interval* seconds."""

    targets: tuple[Contact, ...] = ()
    quiet: tuple[int, int] | None = None
    heartbeat: str = field(default="", repr=False)
    interval: float = 60.0
    secrets: tuple[str, ...] = field(default=(), repr=False)


def contacts(settings: Settings, secret: Mapping[str, str]) -> Contacts:
    """Fill in what the settings only name, from *secret*; raises `ConfigError`."""
    faults, used = list[Fault](), list[str]()

    def filled(value: str | None, path: str) -> str:
        if value is None or not value.startswith(REFERENCE):
            return value or ""
        name = value.removeprefix(REFERENCE)
        if name not in secret:
            where = settings.notify.env_file or "the file of notify.env_file, which is not set"
            faults.append(Fault(path, f"names {name}, which is not in {where}"))
        used.append(secret.get(name, ""))
        return used[-1]

    targets = []
    for number, target in enumerate(settings.notify.targets):
        path = f"notify.targets[{number}]"
        url = filled(target.url, f"{path}.url") or (PUSHOVER if target.kind == "pushover" else "")
        token, user = filled(target.token, f"{path}.token"), filled(target.user, f"{path}.user")
        targets.append(Contact(target.kind, url, token, user, target.command, target.urgent))
    heartbeat = filled(settings.heartbeat.url, "heartbeat.url")
    if faults:
        raise ConfigError(faults)
    quiet = settings.notify.quiet and quiet_hours(settings.notify.quiet)
    addresses = [target.url for target in targets if target.url != PUSHOVER]
    hidden = tuple(filter(None, (*used, *addresses, heartbeat)))
    return Contacts(tuple(targets), quiet or None, heartbeat, settings.heartbeat.interval, hidden)


def quiet_at(quiet: tuple[int, int] | None, minute: int) -> bool:
    """Whether *minute* of the day lies in quiet hours, which may go over midnight."""
    if quiet is None:
        return False
    begin, end = quiet
    return begin <= minute < end if begin < end else minute >= begin or minute < end
