"""When a process ends that is not our child: a worker that a preloader forked, or that an earlier supervisor started."""

from __future__ import annotations

import os
import select
import sys
from contextlib import closing, suppress

import anyio

POLL = 0.1  # seconds, where the kernel offers nothing better


async def ended(pid: int) -> None:
    """Return when process *pid* has ended, reaped or not, or at once when there is none.

    The caller must know that *pid* still is the process it means: a number is given away again once it has been reaped.
    """
    if sys.platform == "darwin":
        with closing(select.kqueue()) as queue:
            watch = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            try:
                queue.control([watch], 0)
            except OSError:  # ESRCH: it is gone
                return
            await anyio.wait_readable(queue.fileno())
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):  # a kernel or a sandbox without it
        await _polled(pid)
        return
    try:
        await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)


async def _polled(pid: int) -> None:
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            await anyio.sleep(POLL)
