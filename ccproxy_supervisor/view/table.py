"""The status on a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ccproxy_supervisor.view.sheet import BAD, BUSY, DIM, GOOD, NONE, Facts, Grid, Sheet

STYLES = {GOOD: "green", BUSY: "yellow", BAD: "bold red", DIM: "dim", NONE: ""}
LABEL, NARROW = 8, 100  # columns


def table(sheet: Sheet, width: int) -> RenderableType:
    parts = [_grid(part, width < NARROW) if isinstance(part, Grid) else _facts(part) for part in sheet]
    return Group(*(part for index, part in enumerate(parts) for part in ([Text(), part] if index else [part])))


def watched(last: Sheet | None, trouble: str, clock: str, width: int) -> RenderableType:
    """One picture of `--watch`; *trouble* says why *last* is not from now."""
    parts: list[RenderableType] = [Text(f"{clock}  every second, ^C ends", "dim"), Text()]
    if trouble:
        parts += [Text(trouble, STYLES[BAD]), Text("this was its last answer:" if last else "", "dim"), Text()]
    return Screenful(Group(*parts, table(last, width)) if last else Group(*parts))


@dataclass(frozen=True, slots=True)
class Screenful:
    """As much of *whole* as the screen is high, and how much is left out."""

    whole: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.whole, options.update(height=None), pad=False)
        if len(lines) > options.max_height:
            shown = options.max_height - 1
            left_out = Text(f"... {len(lines) - shown} more lines; enlarge the terminal", "dim")
            lines[shown:] = console.render_lines(left_out, options.update(height=None), pad=False)[:1]
        for line in lines:
            yield from line
            yield Segment.line()


def _facts(facts: Facts) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=LABEL)
    grid.add_column(overflow="fold")
    for label, cell in facts:
        bold = Text(cell.text, f"{STYLES[cell.tone]} bold") if label == "status" else Text(cell.text, STYLES[cell.tone])
        grid.add_row(label, bold)
    return grid


def _grid(grid: Grid, narrow: bool) -> RenderableType:
    """On a narrow terminal the last column, which is a sentence, goes below its row."""
    shown = Table(box=None, pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0), header_style="dim")
    *columns, last = grid.columns
    for name in columns:
        shown.add_column(name.lower(), no_wrap=True)
    if not narrow:
        shown.add_column(last.lower(), overflow="fold")
    sentences: list[RenderableType] = []
    for row in grid.rows:
        cells = [Text(cell.text, STYLES[cell.tone]) for cell in row]
        shown.add_row(*cells[: len(columns) + (not narrow)])
        if row[-1].text != "-":
            sentences.append(Text.assemble((f"{row[0].text}  ", "dim"), cells[-1]))
    return Group(shown, *sentences) if narrow else shown
