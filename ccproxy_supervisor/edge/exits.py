"""Programs that we start, and when a process ends that is not our child: a worker that a preloader forked, or that an earlier
supervisor started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio

POLL = 0.1  # seconds, where the kernel offers nothing better


class Started:
    """A child of ours. Not asyncio's: that one needs a thread for each, and where none can be started the child is lost."""

    def __init__(self, process: subprocess.Popen[bytes] | Spawned) -> None:
        self.pid, self._process = process.pid, process

    async def wait(self) -> int:
        """Return its exit status once it is reaped, whatever becomes of who should tell us."""
        while self._process.poll() is None:
            with suppress(Exception):
                await ended(self.pid)
            if self._process.poll() is None:
                await anyio.sleep(POLL)
        return self._process.returncode


class Spawned:
    """As much of a `subprocess.Popen` as is asked for here."""

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, 0

    def poll(self) -> int | None:
        with suppress(ChildProcessError):  # somebody else has collected it, how it ended cannot be known
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return None
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def start(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: int, stderr: int, pass_fds: Sequence[int]
) -> Started:
    """Start a program in a session of its own, with nothing to read; raises what `subprocess.Popen` does."""
    if sys.platform == "darwin":
        with suppress(NotImplementedError):
            if os.path.samefile(cwd, "."):  # who is spawned cannot be put elsewhere
                return Started(Spawned(spawn(command, env, {1: stdout, 2: stderr}, pass_fds)))
    return Started(subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=cwd, env=env, pass_fds=pass_fds,
        start_new_session=True,
    ))  # fmt: skip


def spawn(command: Sequence[str], env: Mapping[str, str], outputs: Mapping[int, int], fds: Sequence[int]) -> int:
    """Without a fork: on macOS the child runs the handlers of system frameworks before it comes to its exec, and those crash in a
    process that has threads. For one thread: what is open is inheritable meanwhile. Returns the pid."""
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in outputs.items()]
    ignored = [number for number in (signal.SIGPIPE, signal.SIGXFSZ) if number in signal.valid_signals()]  # by Python
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        return os.posix_spawn(command[0], list(command), env, file_actions=actions, setsid=True, setsigdef=ignored)
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)


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
