"""Listens to the journal and looks at how things are; has people told of what is wrong and when it is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import isinf

import anyio
from anyio import current_time

from ccproxy_supervisor.core.model import Event, Probed
from ccproxy_supervisor.core.notices import Notice, Notices, Trouble
from ccproxy_supervisor.core.troubles import Happened


class Alerting:
    """A listener of the journal. *standing* says what is wrong now, *tell* takes what to tell, *mask* hides secrets."""

    def __init__(
        self, standing: Callable[[], Iterable[Trouble]], tell: Callable[[Notice], None], mask: Callable[[bytes], bytes]
    ) -> None:
        self._standing, self._tell, self._mask = standing, tell, mask
        self._happened, self._notices = Happened(), Notices()
        self._news = anyio.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Probed):
            return  # what a probe changes comes as another event
        if trouble := self._happened.hear(event):
            self._notices.happened(current_time(), trouble)
        self._news.set()

    def remember(self, words: str) -> None:
        """Have told what became of an earlier supervisor."""
        self._notices.happened(current_time(), Trouble("daemon earlier", words))

    async def run(self) -> None:
        """Look whenever something happens, and when it has lasted, or has been over, for long enough."""
        while True:
            self._news = anyio.Event()
            told = self._notices.look(current_time(), [*self._standing(), *self._happened.standing.values()])
            for notice in told:
                self._tell(
                    replace(notice, title=self._hidden(notice.title), lines=tuple(map(self._hidden, notice.lines)))
                )
            due = self._notices.due(current_time())
            with anyio.move_on_after(None if isinf(due) else due):
                await self._news.wait()

    def _hidden(self, words: str) -> str:
        return self._mask(words.encode(errors="replace")).decode(errors="replace")
