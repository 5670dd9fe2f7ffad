"""A condition to wait on: no polling, no lost wake-up."""

from __future__ import annotations

from collections.abc import Callable

from anyio import Event


class Condition:
    """Notified at every change; whoever waits looks at the facts again."""

    def __init__(self) -> None:
        self._event = Event()

    def notify_all(self) -> None:
        self._event.set()
        self._event = Event()

    async def notified(self) -> None:
        """Return at the next notice. Nothing is missed if no await stands between looking and this."""
        await self._event.wait()

    async def wait_for(self, fact: Callable[[], bool]) -> None:
        """Return once *fact()* holds; it is asked now and after every notice."""
        while not fact():
            await self._event.wait()
