"""When a process ends that is not our child: a worker that a preloader forked, or that an earlier supervisor started."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

import anyio

POLL = 0.1  # seconds, where the kernel offers nothing better


class Started:
    """A child of ours. Not asyncio's: that one needs a thread for each, and where none can be started the child is lost."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid, self._process = process.pid, process

    async def wait(self) -> int:
        """Return its exit status once it is reaped, whatever becomes of who should tell us."""
        while self._process.poll() is None:
            with suppress(Exception):
                await ended(self.pid)
            if self._process.poll() is None:
                await anyio.sleep(POLL)
        return self._process.returncode


def start(command: Sequence[str], **how: Any) -> Started:
    """Start a program; *how* is for `subprocess.Popen`, which raises what it does."""
    return Started(subprocess.Popen(command, **how))


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
    while not _gone(pid):  # noqa: ASYNC110 - nobody tells
        await anyio.sleep(POLL)


def _gone(pid: int) -> bool:
    """Whether it has ended; a child of ours is there to be signalled until it is reaped."""
    with suppress(ChildProcessError):
        if sys.platform != "darwin":  # which is never here, and lacks it
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
