"""What went through, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy_supervisor.core.printable import printable
from ccproxy_supervisor.view.sheet import Cell, Grid
from ccproxy_supervisor.view.words import first_token


def usage(by: str, rows: Iterable[Mapping[str, Any]]) -> Grid:
    """What `usage` shows: a row for each model or client."""
    columns = (
        by.upper(),
        "REQUESTS",
        "ERRORS",
        "ABORTED",
        "RETRIED",
        "INPUT",
        "CACHED",
        "OUTPUT",
        "FIRST TOKEN",
        "TOKENS/S",
    )
    return Grid(columns, tuple(map(_row, rows)))


def _row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    counts = (row[name] for name in ("requests", "errors", "aborted", "retried", "input", "cached", "output"))
    words = (
        printable(row["name"]),
        *(f"{count:,}" for count in counts),
        first_token(row),
        _number(row["tokens_per_second"]),
    )
    return tuple(map(Cell, words))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
