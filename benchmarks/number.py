"""What was measured, beside what it is held against."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """*value* is the median of *samples* unless said otherwise; *target* None: only to compare with."""

    what: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    beside: str = ""
    samples: tuple[float, ...] = ()

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def cells(self) -> tuple[str, str, str, str]:
        """Name, value with its spread, target, peers."""
        spread = ""
        if len(self.samples) > 1:
            spread = f" ({plain(min(self.samples))} to {plain(max(self.samples))}, {len(self.samples)}x)"
        sign = "" if self.target is None else f"{'>=' if self.at_least else '<='} {plain(self.target)}"
        mark = {None: "", True: " ok", False: " MISSED"}[self.met]
        return self.what, f"{plain(self.value)} {self.unit}".strip() + spread, f"{sign}{mark}", self.beside


def median(what: str, samples: Iterable[float], unit: str, target: float | None = None, **more: object) -> Number:
    values = tuple(samples)
    return Number(what, statistics.median(values), unit, target, samples=values, **more)  # type: ignore[arg-type]


def plain(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def table(numbers: Iterable[Number]) -> str:
    rows = [("", "measured", "target", "beside"), *(number.cells() for number in numbers)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
