"""Log entries as a person reads them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from ccproxy_supervisor.core.lines import spoken
from ccproxy_supervisor.core.printable import printable
from ccproxy_supervisor.view.entry import Entry

COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}
FIRST = ("time", "level", "event", "logger", "message")  # said before all others, or instead of them
LAST = ("output", "exception")  # of many lines


class Lines:
    """Writes entries one after the other, and the date whenever it changes; *today* needs no saying."""

    def __init__(self, today: str, *, colour: bool) -> None:
        self._date, self._colour = today, colour

    def show(self, entry: Entry) -> str:
        clock = " " * 8
        head = ""
        if entry.time is not None:
            date, _, clock = f"{datetime.fromtimestamp(entry.time).astimezone():%Y-%m-%d %H:%M:%S}".partition(" ")
            head = "" if date == self._date else self._paint(f"-- {date}", "2") + "\n"
            self._date = date
        return head + f"{self._paint(clock, '2')} {self._body(entry)}"

    def _body(self, entry: Entry) -> str:
        if entry.fields is None:
            text = printable(entry.line.decode(errors="replace"))
            return f"{self._paint(f'{entry.log:7}', '2')} {text}"
        fields = entry.fields
        level = self._paint(f"{printable(entry.level):7}", COLOURS.get(entry.level, ""))
        name = (
            f"{fields['event']:20}" if "event" in fields else f"{fields.get('logger', '')}: {fields.get('message', '')}"
        )
        rest = [
            self._pair(key, value) for key, value in fields.items() if key not in FIRST + LAST and value is not None
        ]
        below = [spoken(line) for key in LAST for line in _many(fields.get(key))]
        return "\n".join([" ".join([f"{level} {printable(name)}", *rest]).rstrip(), *map(self._quoted, below)])

    def _pair(self, key: str, value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        if isinstance(value, str) and (not text or any(each.isspace() or each == '"' for each in text)):
            text = json.dumps(value, ensure_ascii=False)
        return self._paint(f"{printable(key)}=", "2") + printable(text)

    def _quoted(self, line: str) -> str:
        return " " * 9 + self._paint("| ", "2") + printable(line)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code else text


def _many(value: Any) -> list[str]:
    lines = value.splitlines() if isinstance(value, str) else value
    return [str(line) for line in lines] if isinstance(lines, list) else []
