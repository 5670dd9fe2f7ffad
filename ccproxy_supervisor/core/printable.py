"""Text from elsewhere (logs, answers, file names, settings) made safe to show to a person."""

from __future__ import annotations

import json
import re
from typing import Any

#: Moves the cursor, changes colours, speaks to the terminal, reorders a line or hides in it: C0 but tab and newline, DEL, C1,
#: separators of lines, marks and overrides of direction, tags, and what cannot be encoded.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    """Write in code what is not for a person's eyes."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def json_text(value: Any, indent: int | None = 2) -> str:
    """Write *value* as JSON that is as safe to look at, and says the same."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    return _UNSAFE.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    written = json.dumps(character)[1:-1]
    return written if written != character else f"\\u{ord(character):04x}"  # DEL is ASCII, and left by json
