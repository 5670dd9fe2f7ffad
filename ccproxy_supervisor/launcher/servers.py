"""uvicorn's server as two of them share a loop, and the private socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any


def server_class() -> Any:
    """uvicorn is imported late: until then only the control thread has to work."""
    import uvicorn

    class Server(uvicorn.Server):
        settle = 0.0

        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """uvicorn closes accepted connections whose request it has not read yet: the client sees a reset.
            Stop accepting, give those a moment to become requests, then let uvicorn drain."""
            for server in self.servers:
                server.close()
            await asyncio.sleep(self.settle)
            await super().shutdown(sockets)

    return Server


@contextlib.contextmanager
def private_socket(path: str) -> Iterator[socket.socket]:
    """Bound by hand: uvicorn would make it 0666. Removed at the end only if it is still ours: when the supervisor was
    killed, a worker of the next one may have the same number."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    old = os.umask(0o177)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path)
    finally:
        os.umask(old)
    mine = identity(path)
    try:
        yield sock
    finally:
        with contextlib.suppress(OSError):
            if identity(path) == mine:
                os.unlink(path)


def identity(path: str) -> tuple[int, int]:
    """The number alone is given to the next file as soon as uvicorn has closed ours."""
    found = os.stat(path)
    return found.st_ino, found.st_ctime_ns
