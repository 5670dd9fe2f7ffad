"""What a process stands on, whatever its parent left it: standard descriptors, and signals that arrive."""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress

from ccproxy_supervisor.core.images import HANDED, HEEDED

#: Ignored on purpose, by Python, `nohup` or a shell that runs us in the background.
LEFT = ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU")

FILES = 8192  # descriptors: kern.maxfilesperproc is far above this


def stand() -> None:
    """Open what is closed of standard input, output and error on /dev/null, for the next file or socket would become it;
    deliver every signal again: without SIGCHLD no child's end is told, without SIGTERM nobody can stop us."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if _closed(fd):
            _open_nothing(fd)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False, errors="replace"))  # noqa: SIM115 - for as long as we live
    signal.pthread_sigmask(signal.SIG_SETMASK, HEEDED if HANDED in os.environ else ())
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and getattr(number, "name", "") not in LEFT:
            with suppress(OSError, ValueError):  # not ours to change
                signal.signal(number, signal.SIG_DFL)


def make_room(wanted: int = FILES) -> int:
    """Raise how many descriptors we and our workers may have to *wanted*, or as near as the system lets us; return how many.

    A Terminal and a plain launchd job give 256, which a hundred clients use up.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
            )
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


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
