"""The status for pipes, files and small terminals: no colour, no lines, columns that stay where they are."""

from __future__ import annotations

from ccproxy_supervisor.view.sheet import Facts, Grid, Sheet

LABEL = 10


def plain(sheet: Sheet) -> str:
    return "\n\n".join(_grid(part) if isinstance(part, Grid) else _facts(part) for part in sheet)


def _facts(facts: Facts) -> str:
    return "\n".join(f"{label:{LABEL}}" + cell.text.replace("\n", "\n" + " " * LABEL) for label, cell in facts)


def _grid(grid: Grid) -> str:
    rows = [grid.columns, *(tuple(cell.text.replace("\n", " ") for cell in row) for row in grid.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
