"""Values as a person reads them."""

from __future__ import annotations

import re
from datetime import datetime

from ccproxy_supervisor.core.incident import spell

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Show what would move the cursor, change colours or reorder a line of a terminal as it is written in code."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


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
