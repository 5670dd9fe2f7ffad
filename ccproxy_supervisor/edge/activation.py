"""Listening sockets that the service manager holds for us: launchd's `Sockets`, or the sd_listen_fds protocol."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

NAME = "Listeners"  # of the entry in the plist's `Sockets`, and of the descriptor in LISTEN_FDNAMES
FIRST = 3  # SD_LISTEN_FDS_START


class ActivationError(Exception):
    """The service manager handed over something that cannot be the public socket."""


class SystemLibrary(Protocol):
    """The part of macOS's libSystem that this needs."""

    launch_activate_socket: Any
    free: Any


class Offer(NamedTuple):
    """A descriptor by the *name* it was given, `None` where the protocol gave none."""

    fd: int
    name: str | None


def public_sockets(name: str = NAME, environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening TCP sockets handed over as *name*; none when nobody did.

    The variables of the protocol are removed: they are not meant for our children.
    """
    offers = _from_environment(environ)
    if not offers and sys.platform == "darwin":
        offers = [Offer(fd, name) for fd in from_launchd(name, ctypes.CDLL(None))]
    named = [offer for offer in offers if offer.name == name]
    sockets = [_listener(offer.fd) for offer in named or offers]
    for unwanted in {offer.fd for offer in offers} - {each.fileno() for each in sockets}:
        os.close(unwanted)
    return sockets


def from_launchd(name: str, library: SystemLibrary) -> list[int]:
    """Ask launchd for the descriptors of `Sockets` entry *name*. It gives them once in a process's life."""
    fds, count = ctypes.POINTER(ctypes.c_int)(), ctypes.c_size_t()
    result = library.launch_activate_socket(name.encode(), ctypes.byref(fds), ctypes.byref(count))
    if result in (errno.ESRCH, errno.ENOENT):  # not started by launchd; no such entry in the plist
        return []
    if result:
        raise ActivationError(f"cannot take socket {name!r} from launchd: {os.strerror(result)}")
    try:
        return list(fds[: count.value])
    finally:
        library.free(fds)


def _from_environment(environ: MutableMapping[str, str]) -> list[Offer]:
    pid, count, names = (environ.pop(f"LISTEN_{key}", None) for key in ("PID", "FDS", "FDNAMES"))
    if count is None or pid != str(os.getpid()):
        return []
    if not count.isascii() or not count.isdigit():
        raise ActivationError(f"cannot take sockets: LISTEN_FDS is {count!r}, not a number")
    labels: list[str | None] = list(names.split(":")) if names else []
    labels += [None] * int(count)
    return [Offer(FIRST + index, labels[index]) for index in range(int(count))]


def _listener(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        taken = socket.socket(fileno=fd)
    except OSError as error:
        raise ActivationError(f"cannot take descriptor {fd} as the public socket: {error.strerror}") from error
    fault = _fault(taken)
    if fault:
        taken.close()
        raise ActivationError(f"cannot take descriptor {fd} as the public socket: {fault}")
    taken.setblocking(False)
    # Accepted sockets inherit it; streamed tokens must not wait for each other.
    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return taken


def _fault(taken: socket.socket) -> str | None:
    if taken.family not in (socket.AF_INET, socket.AF_INET6) or taken.type != socket.SOCK_STREAM:
        return "it is not a TCP socket"
    with suppress(OSError):  # macOS has the name of this option and refuses it: only a clear no is a no
        if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "it is not listening"
    return None
