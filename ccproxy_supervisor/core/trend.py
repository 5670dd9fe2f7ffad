"""How fast something grows: a bounded history and its least-squares slope."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

HOUR = 3600.0


def slope(samples: Sequence[tuple[float, float]]) -> float | None:
    """Return the growth per hour of (seconds, value) *samples*; `None` when they span no time."""
    if not samples:
        return None
    count = len(samples)
    middle_time = sum(at for at, _ in samples) / count
    middle_value = sum(value for _, value in samples) / count
    spread = sum((at - middle_time) ** 2 for at, _ in samples)
    if not spread:
        return None
    return HOUR * sum((at - middle_time) * (value - middle_value) for at, value in samples) / spread


class Trend:
    """The last *size* samples, at least *spacing* seconds apart: two hours, as it stands."""

    def __init__(self, size: int = 120, spacing: float = 60.0) -> None:
        self._spacing = spacing
        self._samples: deque[tuple[float, int]] = deque(maxlen=size)

    @property
    def samples(self) -> tuple[tuple[float, int], ...]:
        return tuple(self._samples)

    def add(self, at: float, value: int) -> None:
        if not self._samples or at - self._samples[-1][0] >= self._spacing:
            self._samples.append((at, value))

    def slope(self, least: int = 10) -> float | None:
        """Growth per hour; `None` before *least* samples: a start is no trend."""
        return slope(self._samples) if len(self._samples) >= least else None
