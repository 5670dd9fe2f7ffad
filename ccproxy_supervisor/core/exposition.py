"""Numbers for Prometheus: families of series, and how its text format and OpenMetrics spell them.

https://prometheus.io/docs/instrumenting/exposition_formats · https://prometheus.io/docs/specs/om/open_metrics_spec
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, product
from typing import Generic, Protocol, TypeVar

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Number:
    """One series of a counter or a gauge."""

    __slots__ = ("_name", "value")

    def __init__(self, name: str) -> None:
        self._name, self.value = name, 0.0

    def inc(self, by: float = 1.0) -> None:
        self.value += by

    def set(self, value: float) -> None:
        self.value = value

    def lines(self) -> Iterator[str]:
        yield f"{self._name} {spelled(self.value)}\n"


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "_counts", "_names", "_sum")

    def __init__(self, names: Sequence[str], bounds: Sequence[float]) -> None:
        self._names, self._bounds = names, bounds
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def set(self, counted: Iterable[tuple[float, int]], total: float) -> None:
        """Take what others *counted*, by upper bound, and the sum of it."""
        self._counts, self._sum = [0] * (len(self._bounds) + 1), total
        for bound, count in counted:
            self._counts[bisect_left(self._bounds, bound)] += count

    def lines(self) -> Iterator[str]:
        sums = (*accumulate(self._counts), sum(self._counts), self._sum)
        return (f"{name} {spelled(value)}\n" for name, value in zip(self._names, sums, strict=True))


#: Of each label, its closed set: every combination has its series from the start. None: those that are told of.
Values = Sequence[Iterable[str]] | None
Series = TypeVar("Series", Number, Distribution)


class Metric(Generic[Series]):
    """A family of series: *labels* are the names, *values* what they may be."""

    kind = ""
    suffix = ""

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), values: Values = None) -> None:
        self.name, self.text, self._label_names = name, text, tuple(labels)
        self._series: dict[tuple[str, ...], Series] = {}
        for combination in product(*values) if values is not None else ():
            self.labels(*combination)

    def labels(self, *values: str) -> Series:
        """Return the series with these *values* of the labels."""
        if (found := self._series.get(values)) is None:
            found = self._series[values] = self._make(tuple(map(str, values)))
        return found

    def _make(self, values: tuple[str, ...]) -> Series:
        raise NotImplementedError

    def lines(self, *, openmetrics: bool) -> Iterator[str]:
        name = self.name if openmetrics else self.name + self.suffix
        yield f"# HELP {name} {_escaped(self.text, quote=openmetrics)}\n# TYPE {name} {self.kind}\n"
        for series in self._series.values():
            yield from series.lines()


class _Numbers(Metric[Number]):
    def add_metric(self, values: Sequence[str], number: float) -> None:
        """Say what the series with these *values* is now: for what is asked for at the scrape."""
        self.labels(*values).set(number)

    def _make(self, values: tuple[str, ...]) -> Number:
        return Number(_named(self.name + self.suffix, self._label_names, values))


class Counter(_Numbers):
    """Only grows."""

    kind, suffix = "counter", "_total"

    def inc(self, by: float = 1.0) -> None:
        self.labels().inc(by)


class Gauge(_Numbers):
    """Goes up and down."""

    kind = "gauge"

    def set(self, value: float) -> None:
        self.labels().set(value)


class Histogram(Metric[Distribution]):
    """Counts what was observed, in buckets up to each of *buckets*."""

    kind = "histogram"

    def __init__(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = (),
        values: Values = None,
    ) -> None:  # fmt: skip
        self._bounds = tuple(buckets)
        super().__init__(name, text, labels, values)

    def observe(self, value: float) -> None:
        self.labels().observe(value)

    def _make(self, values: tuple[str, ...]) -> Distribution:
        bounds = [spelled(bound) for bound in (*self._bounds, math.inf)]
        labels = (*self._label_names, "le")
        names = [_named(f"{self.name}_bucket", labels, (*values, bound)) for bound in bounds]
        ends = [_named(self.name + end, self._label_names, values) for end in ("_count", "_sum")]
        return Distribution([*names, *ends], self._bounds)


Family = _Numbers | Histogram


class Collector(Protocol):
    def collect(self) -> Iterable[Family]:
        """Say how things are now."""
        ...


def page(families: Iterable[Family], accept: str) -> tuple[bytes, str]:
    """Spell *families* as the Accept header asks; returns the content type too."""
    openmetrics = any(_asks_openmetrics(part) for part in accept.split(","))
    text = "".join(line for family in families for line in family.lines(openmetrics=openmetrics))
    return (f"{text}# EOF\n".encode(), OPENMETRICS) if openmetrics else (text.encode(), TEXT)


def spelled(number: float) -> str:
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return "NaN" if math.isnan(number) else repr(float(number))


def _asks_openmetrics(part: str) -> bool:
    kind, *parameters = (word.strip() for word in part.split(";"))
    versions = [word[8:] for word in parameters if word.startswith("version=")]
    return kind == "application/openmetrics-text" and all(version >= "1" for version in versions)


@lru_cache(maxsize=4096)  # label sets are closed
def _named(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = (f'{label}="{_escaped(value, quote=True)}"' for label, value in zip(labels, values, strict=True))
    return f"{name}{{{','.join(pairs)}}}" if labels else name


def _escaped(text: str, *, quote: bool) -> str:
    text = text.encode("utf-8", "replace").decode().replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text
