"""Has models loaded before anybody waits for them: when Ollama is there for the first time, and when it starts again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable

import anyio

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.model import Journal, Note, OllamaStatus
from ccproxy_supervisor.core.ollama import known_as, lacking
from ccproxy_supervisor.core.settings import OllamaSettings
from ccproxy_supervisor.core.wedge import Key

TICK = 5.0  # seconds between two looks at who Ollama is
LOADING = 600.0  # seconds a model may take

#: Asks a serving worker (path, timeout, body); None while there is none.
Ask = Callable[[str, float, bytes], Awaitable[Answer | Failure | None]]


class Warming:
    """*server* identifies the process that is Ollama, None where that cannot be told.

    Models are asked for through LiteLLM: with another context than its requests have, Ollama would load them anew.
    """

    def __init__(
        self, ask: Ask, status: Callable[[], OllamaStatus | None], server: Callable[[Key | None], Awaitable[Key | None]],
        journal: Journal, settings: OllamaSettings, models: Iterable[Model],
    ) -> None:  # fmt: skip
        self._ask, self._status, self._server, self._journal = ask, status, server, journal
        self._key: Key | None = None
        self._up = False
        self.adopt(settings, models)

    def adopt(self, settings: OllamaSettings, models: Iterable[Model]) -> None:
        """Go on with these; a model that is named now for the first time is loaded at Ollama's next start."""
        self._settings, self._models = settings, tuple(models)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await anyio.sleep(TICK)
            await self.look()

    async def look(self) -> None:
        """Have all loaded if Ollama is another than at the last look."""
        if not self._settings.preload or not self._settings.enabled:
            return
        status = self._status()
        if status is None or not status.up:
            self._up = False
            return
        key = await self._server(self._key)
        again = key is not None and self._key is not None and key != self._key
        started = again or not self._up
        self._up, self._key = True, key or self._key
        if started:
            for name in self._settings.preload:
                await self._warm(name, () if again else status.loaded)

    async def _warm(self, name: str, loaded: Iterable[str]) -> None:
        model = next((model for model in self._models if model.name == name), None)
        tag = known_as(model, self._settings.url) if model else None
        if model is None or tag is None or not lacking([tag], loaded):
            return
        path, body = "/v1/chat/completions", {"max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
        if model.does == "embedding":
            path, body = "/v1/embeddings", {"input": "hi"}
        begun, outcome = anyio.current_time(), None
        while outcome is None:
            outcome = await self._ask(path, LOADING, json.dumps({"model": name} | body).encode())
            if outcome is None:
                await anyio.sleep(TICK)
        seconds = round(anyio.current_time() - begun, 1)
        if isinstance(outcome, Answer) and outcome.status == 200:
            self._journal(Note("ollama.preloaded", fields={"model": name, "seconds": seconds}))
        else:
            detail = outcome.detail if isinstance(outcome, Failure) else f"answered {outcome.status}"
            self._journal(Note("ollama.preload_failed", "warning", {"model": name, "detail": detail}))
