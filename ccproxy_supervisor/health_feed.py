"""Tells every worker how things are: the public `/health` is answered by whoever accepts the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ccproxy_supervisor.core.model import Child, Event, Probed


class HealthFeed:
    """A listener of the journal, to be told after those that *health* asks."""

    def __init__(self, health: Callable[[], dict[str, Any]], children: Callable[[], Iterable[Child]]) -> None:
        self._health, self._children = health, children

    def __call__(self, event: Event) -> None:
        if isinstance(event, Probed):
            return  # what a probe changes comes as another event
        facts = self._health()
        for child in self._children():
            child.inform(facts)
