"""Values as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ccproxy_supervisor.core.incident import spell


def ago(stamp: str | None, now: float) -> str:
    """How long before *now* an ISO time was."""
    if stamp is None:
        return "never"
    seconds = now - datetime.fromisoformat(stamp).timestamp()
    return "just now" if seconds < 10 else f"{spell(seconds)} ago"


def memory(size: int | None, growth: float | None = None) -> str:
    """Bytes, and bytes an hour when they are worth a word."""
    if size is None:
        return "-"
    grows = f" +{growth / (1 << 20):.0f}/h" if growth and growth >= 1 << 20 else ""
    return f"{size / (1 << 20):.0f} MiB{grows}"


def first_token(row: Mapping[str, Any]) -> str:
    """The median, and what one in twenty waits longer than."""
    times = row["first_token"]
    return "-" if times["p50"] is None else f"{_seconds(times['p50'])} / {_seconds(times['p95'])}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.1f}s"
