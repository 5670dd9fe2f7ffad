"""The journal: the one door through which every event reaches log, metrics, status and incidents."""

from __future__ import annotations

from collections.abc import Callable

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.model import Event, Journal, Note


class EventBus:
    """Tells every listener, whatever another one makes of it; who fails is noted once for each kind of error."""

    def __init__(self) -> None:
        self.listeners: list[Journal] = []
        self._failed: set[tuple[int, type[Exception]]] = set()

    def tell(self, event: Event) -> None:
        for place, listen in enumerate(self.listeners):
            if error := _failure(listen, event):
                self._note(place, error)

    def _note(self, place: int, error: Exception) -> None:
        """Let the others know."""
        if (place, type(error)) in self._failed:
            return
        self._failed.add((place, type(error)))
        fields = {"listener": type(self.listeners[place]).__name__, "reason": told(error)}
        for other in self.listeners[:place] + self.listeners[place + 1 :]:
            _failure(other, Note("listener.failed", "error", fields))


def each(steps: list[Callable[[], object]]) -> None:
    """Take every step, whatever becomes of the others; raises `ExceptionGroup` of what they raised."""
    errors = [error for step in steps if (error := _failure(step))]
    if errors:
        raise ExceptionGroup("not every step was taken", errors)


def _failure(call: Callable[..., object], *words: object) -> Exception | None:
    try:
        call(*words)
    except Exception as error:
        return error
    return None
