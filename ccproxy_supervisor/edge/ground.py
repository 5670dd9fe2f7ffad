"""What a process stands on, whatever its parent left it: standard descriptors, and signals that arrive."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

#: Ignored on purpose, by Python, `nohup` or a shell that runs us in the background.
LEFT = ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU")


def stand() -> None:
    """Open what is closed of standard input, output and error on /dev/null, for the next file or socket would become it;
    deliver every signal again: without SIGCHLD no child's end is told, without SIGTERM nobody can stop us."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if _closed(fd):
            _open_nothing(fd)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False, errors="replace"))  # noqa: SIM115 - for as long as we live
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and getattr(number, "name", "") not in LEFT:
            with suppress(OSError, ValueError):  # not ours to change
                signal.signal(number, signal.SIG_DFL)


def _closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


def _open_nothing(fd: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != fd:
        os.dup2(nothing, fd)
        os.close(nothing)
    os.set_inheritable(fd, True)
