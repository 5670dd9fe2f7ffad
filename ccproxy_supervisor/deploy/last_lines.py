"""What a daemon that does not come up has left: the last lines of the two files that hold its reasons."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from ccproxy_supervisor.edge import last_words

LINES, TAIL = 8, 1 << 14


def last_lines(logs: Path) -> Iterator[str]:
    for file in (logs / "supervisor.log", logs / last_words.NAME):
        lines = _tail(file)
        if lines:
            yield f"last lines of {file}:"
            yield from (f"  | {line}" for line in lines)


def _tail(file: Path) -> list[str]:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
            lines = stream.read(TAIL).decode(errors="replace").splitlines()
    except OSError:
        return []
    return [_readable(line) for line in lines[-LINES:]]


def _readable(line: str) -> str:
    """A JSON log line as a person reads it; anything else as it is."""
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict):
        return line
    first = [str(fields.pop(key)) for key in ("time", "timestamp", "level", "event") if key in fields]
    return " ".join([*first, *(f"{key}={value}" for key, value in fields.items())])
