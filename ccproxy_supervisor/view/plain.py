"""The status for pipes, files and small terminals: no colour, no lines, columns that stay where they are."""

from __future__ import annotations

from ccproxy_supervisor.view.sheet import Cell, Grid, Sheet

LABEL = 10


def plain(sheet: Sheet) -> str:
    parts = [_facts(sheet.head), *(_grid(grid) for grid in sheet.grids if grid.rows), _facts(sheet.foot)]
    return "\n\n".join(parts)


def _facts(facts: tuple[tuple[str, Cell], ...]) -> str:
    return "\n".join(f"{label:{LABEL}}" + cell.text.replace("\n", "\n" + " " * LABEL) for label, cell in facts)


def _grid(grid: Grid) -> str:
    rows = [grid.columns, *(tuple(cell.text.replace("\n", " ") for cell in row) for row in grid.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
