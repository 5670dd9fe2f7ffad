"""`run/upgrade.json`: what became of the last change of LiteLLM. Commands write it, the daemon shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from ccproxy_supervisor.core.exposition import Family, Gauge
from ccproxy_supervisor.system.files import put

FILE = "upgrade.json"
_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Upgrade:
    """*at* is when it ended (wall time); *before* and *version* are LiteLLM's, *version* the one that was wanted."""

    action: Literal["install", "upgrade", "rollback", "repair"]
    result: Literal["done", "refused", "failed"]
    at: float
    seconds: float
    version: str | None = None
    before: str | None = None
    detail: str = ""


_UPGRADE = TypeAdapter(Upgrade)


def read(run: Path) -> Upgrade | None:
    """Return the last one; None when there was none, or the file is not ours to understand."""
    try:
        with open(run / FILE, "rb") as file:
            return _UPGRADE.validate_json(file.read(_LARGEST))
    except (OSError, ValueError):
        return None


def write(run: Path, upgrade: Upgrade) -> None:
    """Replace the file whole. A full disk costs this note, nothing else."""
    with suppress(OSError):
        put(run / FILE, _UPGRADE.dump_json(upgrade))


class Upgrades:
    """What the daemon shows of them: a part of `/status`, and a collector of metrics."""

    def __init__(self, run: Path) -> None:
        self._run, self._pinned = run, pinned()

    def document(self) -> dict[str, Any]:
        last = read(self._run)
        told = (
            {**asdict(last), "at": datetime.fromtimestamp(last.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
            if last
            else None
        )
        return {"pinned": self._pinned, "last": told}

    def collect(self) -> Iterator[Family]:
        """Answer the registry; before the first change there is no sample of it."""
        last = read(self._run)
        ours = Gauge(
            "ccproxy_litellm_upgrade_pinned_info", "The version this supervisor was tested with.", ("version",)
        )
        well = Gauge("ccproxy_litellm_upgrade_last_success", "Whether the last change of LiteLLM was made.")
        when = Gauge("ccproxy_litellm_upgrade_timestamp_seconds", "When the last change of LiteLLM ended.")
        if last:
            well.add_metric([], last.result == "done")
            when.add_metric([], last.at)
        ours.add_metric([self._pinned], 1)
        yield from (ours, well, when)


def pinned() -> str:
    """The version of LiteLLM that this release of the supervisor was tested with and carries a lock for."""
    return (files("ccproxy_supervisor") / "data/litellm/pinned").read_text().strip()
