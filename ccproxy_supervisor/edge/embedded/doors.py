"""Sockets to serve on: tried until they open, and opened by nobody else."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable

import anyio

from ccproxy_supervisor.core.model import Journal, Note

FIRST_RETRY, LONGEST_RETRY = 1.0, 5.0  # seconds


async def opened(
    make: Callable[[], socket.socket], complain: Callable[[OSError], Note], journal: Journal
) -> socket.socket:
    """Try until it works; complain when the reason is a new one."""
    delay, last = FIRST_RETRY, None
    while True:
        try:
            return make()
        except OSError as error:
            if error.errno != last:
                journal(complain(error))
            last = error.errno
        await anyio.sleep(delay)
        delay = min(delay * 2, LONGEST_RETRY)


def open_tcp(host: str, port: int) -> socket.socket:
    """Open the port; `asyncio` begins to listen on it."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


class UnixDoor:
    """A socket at *path*, and whether it still is ours."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._mine: tuple[int, ...] = ()

    def open(self) -> socket.socket:
        """Bind and listen; raises OSError."""
        _remove_stale(self._path)
        sock = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)  # never, not even for an instant, anybody else's to open
        try:
            sock.bind(self._path)
            sock.listen()
            self._mine = self._identity()
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(before)
        return sock

    def there(self) -> bool:
        with contextlib.suppress(OSError):
            return self._identity() == self._mine
        return False

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            if self.there():
                os.unlink(self._path)

    def _identity(self) -> tuple[int, ...]:
        """The number alone is given to the next file."""
        found = os.lstat(self._path)
        return found.st_dev, found.st_ino, found.st_ctime_ns


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody answers on; anything else there is not ours to remove."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "something else is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # alive, and busy
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
