"""What differs between two settings, and what it takes to apply it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ccproxy_supervisor.core.settings import Settings

ROLL = frozenset({"proxy.python", "proxy.config", "proxy.auth", "proxy.env", "proxy.env_file"})
UNNAMED = frozenset({"proxy.env", "notify.targets", "heartbeat.url"})  # may hold secrets
FIXED = frozenset({"proxy.host", "proxy.port", "admin.host", "admin.port", "admin.socket"})


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs, *old* and *new* as people write them (None for `UNNAMED`).

    *kind*: `adopt` in place, `roll` to new workers, `fixed` until the daemon itself is restarted.
    """

    path: str
    old: Any
    new: Any
    kind: Literal["adopt", "roll", "fixed"]

    def __str__(self) -> str:
        return f"{self.path} changed" if self.path in UNNAMED else f"{self.path}: {self.old} -> {self.new}"


def changes(old: Settings, new: Settings) -> tuple[Change, ...]:
    """List what differs, in the order of the settings."""
    before, after = leaves(old), leaves(new)
    return tuple(_change(path, before[path], after[path]) for path in before if before[path] != after[path])


def leaves(settings: Settings) -> dict[str, Any]:
    """Every setting by its dotted path, as people write it; lists and `proxy.env` are one setting each."""
    found: dict[str, Any] = {}
    for section, value in settings.model_dump(mode="json").items():
        found |= (
            {f"{section}.{key}": leaf for key, leaf in value.items()} if isinstance(value, dict) else {section: value}
        )
    return found


def _change(path: str, old: Any, new: Any) -> Change:
    kind: Literal["adopt", "roll", "fixed"] = "fixed" if path in FIXED else "roll" if path in ROLL else "adopt"
    return Change(path, None, None, kind) if path in UNNAMED else Change(path, old, new, kind)
