"""An Ollama that can be told to misbehave in the ways its users reported, for tests on virtual time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import anyio

from ccproxy_supervisor.core.answer import Answer, Failure


class LyingOllama:
    """*hangs*: generation never answers; *fails*: it answers 500 with this; else *status*. Until *cured_by* one of `unload`, `runner`,
    `restart`. *asked* is what it was asked to do, and when."""

    def __init__(
        self, *loaded: str, cured_by: str = "", hangs: bool = False, fails: str = "", status: int = 200
    ) -> None:
        self.loaded, self.cured_by, self.hangs, self.fails = list(loaded), cured_by, hangs, fails
        self.expires, self.up, self.status = 10_000.0, True, status
        self.asked: list[tuple[float, str, dict[str, Any]]] = []

    def cure(self, by: str) -> None:
        if by == self.cured_by:
            self.hangs, self.fails = False, ""

    def done(self, path: str) -> list[dict[str, Any]]:
        return [body for _, asked, body in self.asked if asked == path]

    async def fetch(
        self, url: str, *, timeout: float, method: str = "GET", body: bytes = b"", **_: Any
    ) -> Answer | Failure:
        path, words = url.partition("/api")[2], json.loads(body or b"{}")
        if method == "POST":
            self.asked.append((anyio.current_time(), path, words))
        await anyio.lowlevel.checkpoint()
        if not self.up:
            return Failure("refused", "cannot connect", 0.0)
        if path == "/ps":
            return self.say({"models": [self._entry(name) for name in self.loaded]})
        if words.get("keep_alive") == 0 and "prompt" not in words:
            self.cure("unload")
            if not self.hangs:
                self.loaded.clear()
            return self.say({"done": True})
        if self.hangs:
            await anyio.sleep(timeout)
            return Failure("timeout", f"no complete answer in {timeout:g} s", timeout)
        if self.fails:
            return Answer(500, json.dumps({"error": self.fails}).encode(), 0.1)
        return Answer(self.status, b'{"response": "a", "done": true}', 0.1)

    def _entry(self, name: str) -> dict[str, Any]:
        expires = datetime.fromtimestamp(self.expires, UTC).isoformat().replace("+00:00", ".123456789Z")
        return {"name": name, "expires_at": expires, "context_length": 32768}

    @staticmethod
    def say(data: object) -> Answer:
        return Answer(200, json.dumps(data).encode(), 0.1)
