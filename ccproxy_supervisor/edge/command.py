"""Runs a program that the owner named."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from subprocess import DEVNULL, STDOUT

import anyio

TAIL = 1 << 12  # bytes of its output that are looked at


async def run(words: Sequence[str], timeout: float) -> str:
    """Run it for at most *timeout* seconds, in a session of its own and without a shell; return what is wrong, if anything.

    Its output goes to a file: a pipe would be held open by what it leaves running, and that must not be ended.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = await anyio.open_process(words, stdin=DEVNULL, stdout=said, stderr=STDOUT, start_new_session=True)
        except OSError as error:
            return f"cannot run {words[0]}: {error.strerror}"
        status: int | None = None
        try:
            with anyio.move_on_after(timeout):
                status = await process.wait()
        finally:
            if status is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with anyio.CancelScope(shield=True):
                    await process.wait()
        if status is None:
            return f"{words[0]} was not done after {timeout:g} s and was ended"
        size = os.fstat(said.fileno()).st_size
        last = os.pread(said.fileno(), TAIL, max(0, size - TAIL)).decode(errors="replace").strip().rpartition("\n")[2]
    told = "".join(c for c in last if c.isprintable())[:200]
    return f"{words[0]} ended with status {status}: {told}".removesuffix(": ") if status else ""
