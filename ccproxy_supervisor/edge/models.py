"""Asks LiteLLM for each model of its config, one at a time and seldom: every question is a real generation."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote

import anyio

from ccproxy_supervisor.core.answer import Answer, Failure, verdict
from ccproxy_supervisor.core.litellm import Model
from ccproxy_supervisor.core.model import Journal, ModelSeen, Probed, Verdict
from ccproxy_supervisor.core.settings import ModelSettings

SOON = 5.0  # seconds: before the first question of a generation, and between the first ones
CALM = 1.0  # seconds between two looks at whether the service is busy

Ask = Callable[[str, float], Awaitable[Answer | Failure | None]]


class ModelWatch:
    """Handed three ways to look: *ask* (path, timeout) a serving worker, None while there is none; whether a
    question is *harmless*, for it loads nothing; whether the service is busy."""  # fmt: skip

    def __init__(
        self,
        ask: Ask,
        harmless: Callable[[Model], Awaitable[bool]],
        busy: Callable[[], bool],
        journal: Journal,
        settings: ModelSettings,
        models: Iterable[Model],
    ) -> None:
        self._ask, self._is_harmless, self._busy, self._journal = ask, harmless, busy, journal
        self._settings, self._models = settings, tuple(models)
        self._changed = anyio.Event()
        self._bad: dict[str, bool] = {}  # of models that failed when last asked: whether they were passed over since

    def adopt(self, settings: ModelSettings, models: Iterable[Model]) -> None:
        """Go on with these, soon: also to be called for a new generation."""
        self._settings, self._models = settings, tuple(models)
        self._changed.set()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            self._changed = anyio.Event()
            names = tuple(dict.fromkeys(model.name for model in self._models))
            if self._settings.interval is None or not names:
                for name in tuple(self._bad):
                    self._take_back(name)
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
                await self._check(name, share / 2)
            due, gap = max(due + interval, anyio.current_time()), share

    async def _check(self, name: str, patience: float) -> None:
        """Ask once, when the service is calm or *patience* seconds have passed, and if that loads nothing."""
        begun, outcome = anyio.current_time(), None
        while self._busy() and anyio.current_time() < begun + patience:
            if await self._pause(CALM):
                return
        while outcome is None:
            if not await self._harmless(name):
                self._pass_over(name)
                return
            outcome = await self._ask(f"/health?model={quote(name, safe='')}", self._settings.timeout)
            if outcome is None and await self._pause(SOON):
                return
        judged, seen = judge(name, outcome)
        self._journal(Probed("models", name, judged))
        if seen:
            self._bad.pop(name, None)
            if not seen.healthy:
                self._bad[name] = False
            self._journal(seen)

    def _pass_over(self, name: str) -> None:
        """A model that may not be asked cannot show that it is well again: the second time it is no longer unwell."""
        if self._bad.get(name):
            self._take_back(name)
        elif name in self._bad:
            self._bad[name] = True

    def _take_back(self, name: str) -> None:
        del self._bad[name]
        self._journal(ModelSeen(name, healthy=None, detail="failed when last asked; may not be asked now"))

    async def _harmless(self, name: str) -> bool:
        if not self._settings.only_loaded:
            return True
        return all([await self._is_harmless(model) for model in self._models if model.name == name])

    async def _pause(self, seconds: float) -> bool:
        """Wait; say whether something changed meanwhile."""
        with anyio.move_on_after(max(0.0, seconds)):
            await self._changed.wait()
        return self._changed.is_set()


def judge(name: str, outcome: Answer | Failure) -> tuple[Verdict, ModelSeen | None]:
    """Tell a model's fault from LiteLLM's own, which says nothing of the model."""
    judged = verdict(outcome)
    if isinstance(outcome, Failure):
        return judged, ModelSeen(name, healthy=False, detail=outcome.detail) if outcome.reason == "timeout" else None
    if outcome.status not in (200, 503):
        return judged, None
    try:
        data = json.loads(outcome.body)
        well, sick = len(data["healthy_endpoints"]), data["unhealthy_endpoints"]
        errors = [str(endpoint.get("error") or "") for endpoint in sick]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Verdict(ok=False, seconds=outcome.seconds, reason="garbage", detail="not LiteLLM's report"), None
    detail = _line(errors[0]) if errors else "" if well else "LiteLLM has no such model"
    seen = ModelSeen(
        name, healthy=well > 0, detail=f"{len(errors)} of {well + len(errors)}: {detail}" if well and errors else detail
    )
    return Verdict(ok=well > 0, seconds=outcome.seconds, reason="" if well else "status", detail=seen.detail), seen


def _line(text: str) -> str:
    """Return the first line, without the traceback that LiteLLM appends."""
    return "".join(c for c in text.partition("\n")[0] if c.isprintable())[:200]
