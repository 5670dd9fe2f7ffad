"""What may be seen of a line: secrets hidden, the last ones kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HIDDEN = b"***"
_RECORD = re.compile(r'"level": "(?P<level>\w+)".*?"message": "(?P<message>(?:[^"\\]|\\.)*)')
_CLOSING = "Application startup failed. Exiting."  # uvicorn's, after the error itself
SHORTEST = 6  # hiding `true`, `INFO` or `8081` would only spoil the logs


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values that no log may show, longest first."""

    values: tuple[bytes, ...] = ()

    def plus(self, more: Iterable[bytes]) -> Secrets:
        """Add *more*, also as JSON writes them; each line of a value counts, shorter ones than `SHORTEST` do not."""
        lines = {line.strip() for value in more for line in value.splitlines()}
        escaped = {json.dumps(line.decode("utf-8", "replace"))[1:-1].encode() for line in lines}
        known = {line for line in lines | escaped if len(line) >= SHORTEST} | set(self.values)
        return Secrets(tuple(sorted(known, key=lambda value: (-len(value), value))))

    def within(self, data: bytes | bytearray, end: int) -> bool:
        """Whether a secret stands in the first *end* bytes."""
        return any(data.find(value, 0, end) >= 0 for value in self.values)

    def mask(self, data: bytes) -> bytes:
        for value in self.values:
            data = data.replace(value, HIDDEN)
        return data

    def begun(self, data: bytes) -> int:
        """The length of the longest end of *data* with which a secret may be beginning."""
        return max(
            (size for value in self.values for size in range(1, len(value)) if data.endswith(value[:size])), default=0
        )


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
