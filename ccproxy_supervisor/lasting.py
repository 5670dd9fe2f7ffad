"""Parts of the daemon that last: one that fails is told, started again after a while, and takes no other down."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

from anyio import current_time, sleep

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.model import Journal, Note

FIRST, LONGEST = 1.0, 30.0  # seconds until it is started again; the wait doubles
STEADY = 60.0  # seconds after which a failure is the first again
FRAMES = 5


async def lasting(name: str, run: Callable[[], Awaitable[object]], journal: Journal) -> None:
    """Run the part until it returns. Only cancellation, and what is meant to end a process, passes."""
    delay = FIRST
    while True:
        begun = current_time()
        try:
            await run()
        except Exception as error:  # of whatever kind: the fault of one part is not the daemon's end
            if current_time() - begun > STEADY:
                delay = FIRST
            journal(failed(name, error, delay))
        else:
            return
        await sleep(delay)
        delay = min(2 * delay, LONGEST)


def failed(name: str, error: Exception, delay: float | None = None) -> Note:
    """Tell of *error*, and in how many seconds the part goes on."""
    trace = "".join(traceback.format_exception(error, limit=-FRAMES))
    fields = {"part": name, "error": told(error)[:500], "traceback": trace[-4000:]}
    return Note("part.failed", "error", fields | ({"delay": delay} if delay else {}))
