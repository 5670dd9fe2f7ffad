"""Puts questions to workers at their private doors."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ccproxy_supervisor.core.answer import Answer, Failure, Fetch, verdict
from ccproxy_supervisor.core.canary import PATH, harmless, question, wrong
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.model import Verdict
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.worker import Worker

PROBE = 1 << 16  # bytes of a probe's answer
REPORT = 1 << 20  # bytes of a report on a model


class Prober:
    """*visit* connects to a worker by number, or raises OSError; *plan* is the one in force: its key is sent along."""

    def __init__(self, visit: Callable[[int], socket.socket], plan: Callable[[], Plan], fetch: Fetch) -> None:
        self._visit, self._plan, self._fetch = visit, plan, fetch

    def probe(self, path: str) -> Callable[[int, float], Awaitable[Verdict]]:
        """Return a probe of *path* for the heart: of a worker by number, within so many seconds."""

        async def ask(number: int, timeout: float) -> Verdict:
            return verdict(await self.ask(number, path, timeout))

        return ask

    async def ask(self, number: int, path: str, timeout: float, *, limit: int = PROBE, **more: Any) -> Answer | Failure:
        key = self._plan().birth.key
        headers = (("Authorization", f"Bearer {key}"),) if key else ()
        over = partial(self._visit, number)
        return await self._fetch(
            f"http://localhost{path}", over=over, timeout=timeout, limit=limit, headers=headers, **more
        )

    def questions(self, idle: Callable[[Model], Awaitable[bool]]) -> Callable[[], Awaitable[list[str]]]:
        """Return who names the models that `short` may ask for at any time; *idle* says that asking loads nothing."""

        async def names() -> list[str]:
            groups = harmless(self._plan().litellm.models)
            return [group[0].name for group in groups if all([await idle(model) for model in group])]

        return names

    async def short(self, number: int, model: str, timeout: float) -> Verdict:
        """Ask worker *number* for one short completion of *model*."""
        return verdict(await self.ask(number, PATH, timeout, method="POST", body=question(model)))

    async def complete(self, model: str, worker: Worker) -> str | None:
        """Ask *worker* for one short completion of *model*; return what is wrong with the answer."""
        seconds = self._plan().settings.models.timeout
        return wrong(model, await self.ask(worker.number, PATH, seconds, method="POST", body=question(model)))
