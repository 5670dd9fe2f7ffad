"""Lines that are told: the last ones, and those that say most."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_RECORD = re.compile(r'"level": "(?P<level>\w+)".*?"message": "(?P<message>(?:[^"\\]|\\.)*)')
_CLOSING = "Application startup failed. Exiting."  # uvicorn's, after the error itself


def last_lines(pieces: Iterable[bytes], count: int, width: int) -> tuple[str, ...]:
    """The last *count* lines of *pieces*, which begin and end with a line, cut to *width* characters."""
    lines = [line for piece in pieces for line in piece.splitlines() if line.strip()]
    return tuple(line.decode("utf-8", "replace")[:width] for line in lines[-count:])


def spoken(line: str) -> str:
    """A record of LiteLLM's log as a person reads it; other lines are as they are."""
    record = _RECORD.search(line)
    return f"{record['level']}: {record['message']}".replace('\\"', '"') if record else line


def telling(output: Sequence[str]) -> str:
    """The line that says best why a worker ended: the last that is plain text, or LiteLLM's record of an error."""
    for line in reversed(output):
        record = _RECORD.search(line)
        if record is None:
            return line
        if record["level"] in ("error", "critical") and record["message"] != _CLOSING:
            return record["message"].replace('\\"', '"')
    return output[-1] if output else ""
