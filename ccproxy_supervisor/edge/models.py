"""Asks LiteLLM for each model of its config, one at a time and seldom: every question is a real generation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote

import anyio

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.checks import by_name
from ccproxy_supervisor.core.health import ModelHealth, judge
from ccproxy_supervisor.core.litellm import Model
from ccproxy_supervisor.core.model import Journal, ModelSeen, Probed
from ccproxy_supervisor.core.settings import ModelSettings

SOON = 5.0  # seconds: before the first question of a generation, and between the first ones
CALM = 1.0  # seconds between two looks at whether the service is busy
DOUBT = 15.0  # seconds before a model that failed once is asked again

Ask = Callable[[str, float], Awaitable[Answer | Failure | None]]


class ModelWatch:
    """Handed three ways to look: *ask* (path, timeout) a serving worker, None while there is none; whether a
    question is *harmless*, for it loads nothing; whether the service is busy. *health* is what it knows."""  # fmt: skip

    def __init__(
        self, ask: Ask, harmless: Callable[[Model], Awaitable[bool]], busy: Callable[[], bool], journal: Journal,
        wall: Callable[[], float], settings: ModelSettings, models: Iterable[Model],
    ) -> None:  # fmt: skip
        self._ask, self._is_harmless, self._busy, self._journal, self._wall = ask, harmless, busy, journal, wall
        self.health = ModelHealth()
        self._changed = anyio.Event()
        self.adopt(settings, models)

    def adopt(self, settings: ModelSettings, models: Iterable[Model]) -> None:
        """Go on with these, soon: also to be called for a new generation."""
        self._settings, self._models = settings, by_name(models)
        for seen in self.health.adopt(self._models, settings):
            self._journal(seen)
        self._changed.set()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            self._changed = anyio.Event()
            names = tuple(view.name for view in self.health.views if view.asked)
            if self._settings.interval is None or not names:
                await self._changed.wait()
            else:
                await self._rounds(names, self._settings.interval)

    async def _rounds(self, names: tuple[str, ...], interval: float) -> None:
        """Ask for all soon, then spread over *interval*, until something changes."""
        due, share = anyio.current_time() + SOON, interval / len(names)
        gap = min(SOON, share)
        while True:
            for place, name in enumerate(names):
                if await self._pause(due + place * gap - anyio.current_time()):
                    return
                if await self._check(name, share / 2) and not await self._pause(min(DOUBT, interval)):
                    await self._check(name, share / 2)
                if self._changed.is_set():
                    return
            due, gap = max(due + interval, anyio.current_time()), share

    async def _check(self, name: str, patience: float) -> bool:
        """Ask once, when the service is calm or *patience* seconds have passed, and if that loads nothing.

        Returns whether the answer is in doubt.
        """
        begun, outcome = anyio.current_time(), None
        while self._busy() and anyio.current_time() < begun + patience:
            if await self._pause(CALM):
                return False
        while outcome is None:
            if not await self._harmless(name):
                self._tell(self.health.passed_over(name))
                return False
            outcome = await self._ask(f"/health?model={quote(name, safe='')}", self._settings.timeout)
            if outcome is None and await self._pause(SOON):
                return False
        if self._changed.is_set():
            return False  # it was asked of a configuration that no longer holds
        judged, heard = judge(outcome, len(self._models.get(name, ())))
        self._journal(Probed("models", name, judged))
        self._tell(self.health.heard(name, heard, self._wall()))
        return self.health.doubted(name)

    def _tell(self, seen: ModelSeen | None) -> None:
        if seen:
            self._journal(seen)

    async def _harmless(self, name: str) -> bool:
        if not self._settings.only_loaded:
            return True
        return all([await self._is_harmless(model) for model in self._models.get(name, ())])

    async def _pause(self, seconds: float) -> bool:
        """Wait; say whether something changed meanwhile."""
        with anyio.move_on_after(max(0.0, seconds)):
            await self._changed.wait()
        return self._changed.is_set()
