"""Watches Ollama: up or not, what it has, what it has loaded, what LiteLLM's config wants and it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import anyio

from ccproxy_supervisor.core.answer import Answer, Fetch, verdict
from ccproxy_supervisor.core.litellm import Model
from ccproxy_supervisor.core.model import Journal, Note, OllamaStatus, Probed, Verdict
from ccproxy_supervisor.core.ollama import lacking, local, read_loaded, read_models, read_version, root, tag, wanted
from ccproxy_supervisor.core.settings import OllamaSettings

VERSION_EVERY = 4  # rounds; it changes only with Ollama's process, and a request costs a fiftieth of the idle budget

T = TypeVar("T")


class _UnwellError(Exception):
    """Ollama did not answer as it should."""

    def __init__(self, path: str, seconds: float, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.verdict = Verdict(ok=False, seconds=seconds, reason=reason, detail=f"{path}: {detail}")


class OllamaWatch:
    """*status* is what it said last; None while it has not been asked, or is not to be. In *grace* it may be silent."""

    def __init__(
        self,
        fetch: Fetch,
        journal: Journal,
        settings: OllamaSettings,
        models: Iterable[Model],
        grace: Callable[[], bool],
    ) -> None:
        self.status: OllamaStatus | None = None
        self._fetch, self._journal, self._grace = fetch, journal, grace
        self._settings, self._models = settings, tuple(models)
        self._changed, self._round = anyio.Event(), 0

    def adopt(self, settings: OllamaSettings, models: Iterable[Model]) -> None:
        """Go on with these, at once."""
        self._settings, self._models = settings, tuple(models)
        self._changed.set()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            self._changed = changed = anyio.Event()
            if not self._settings.enabled:
                self.status = None
                await changed.wait()
                continue
            begun = anyio.current_time()
            status, judged = await self._look()
            if changed.is_set():
                continue  # it was asked under settings that no longer hold
            self._tell(status, judged)
            with anyio.move_on_after(max(0.0, begun + self._settings.interval - anyio.current_time())):
                await changed.wait()

    async def harmless(self, model: Model) -> bool:
        """Whether asking for *model* makes no Ollama load it: that has it in memory, or the model is not Ollama's."""
        if not local(model, self._settings.url):
            return True
        name = tag(model)
        if name is None or model.base is None or not self._settings.enabled:
            return False  # cannot be known
        try:
            loaded, _ = await self._ask("/api/ps", read_models, root(model.base))
        except _UnwellError:
            return False
        return not lacking([name], loaded)

    async def _look(self) -> tuple[OllamaStatus, Verdict]:
        """Ask for everything; the first answer amiss means down, half a status would be a guess."""
        version, first = self.status.version if self.status else None, 0.0
        try:
            if version is None or self._round % VERSION_EVERY == 0:
                version, first = await self._ask("/api/version", read_version)
            models, second = await self._ask("/api/tags", read_models)
            running, third = await self._ask("/api/ps", read_loaded)
        except _UnwellError as error:
            return OllamaStatus(up=False, detail=error.verdict.detail), error.verdict
        missing = lacking(wanted(self._models, self._settings.url), models)
        loaded = tuple(model.name for model in running)
        judged = Verdict(True, first + second + third)
        return OllamaStatus(True, version, models, loaded, missing, running=running), judged

    async def _ask(self, path: str, read: Callable[[bytes], T], base: str | None = None) -> tuple[T, float]:
        url = (base or self._settings.url).rstrip("/") + path
        outcome = await self._fetch(url, timeout=self._settings.timeout)
        judged = verdict(outcome)
        if not isinstance(outcome, Answer) or not judged.ok:
            raise _UnwellError(path, judged.seconds, judged.reason, judged.detail)
        try:
            return read(outcome.body), outcome.seconds
        except ValueError as error:
            raise _UnwellError(path, outcome.seconds, "garbage", str(error)) from None

    def _tell(self, status: OllamaStatus, judged: Verdict) -> None:
        before = self.status
        self._journal(Probed("ollama", "ollama", judged))
        if before and before.up and not status.up and (not judged.blames or self._grace()):
            return
        self.status = status
        self._round += 1
        self._journal(status)
        if before is None or before.up != status.up:
            if status.up:
                self._journal(Note("ollama.found", fields={"version": status.version, "models": len(status.models)}))
            else:
                self._journal(Note("ollama.lost", "warning", {"reason": judged.reason, "detail": judged.detail}))
        if status.missing and status.missing != (before.missing if before else ()):
            self._journal(Note("ollama.models_missed", "warning", {"missing": list(status.missing)}))
