"""uvicorn's server as two of them share a loop, and the private socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .guests import QUIET

MOST = 4096  # connections that are taken over while we leave: no queue is longer


def server_class() -> Any:
    """uvicorn is imported late: until then only the control thread has to work."""
    import uvicorn

    class Server(uvicorn.Server):
        settle = 0.0

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self._visits: set[asyncio.Task[None]] = set()

        def receive(self, visitor: socket.socket) -> None:
            """Serve a connection that no listener of ours accepted."""
            visit = asyncio.get_running_loop().create_task(self._attend(visitor))
            self._visits.add(visit)
            visit.add_done_callback(self._visits.discard)

        async def _attend(self, visitor: socket.socket) -> None:
            def protocol() -> Any:
                kind: Any = self.config.http_protocol_class
                return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

            visitor.setblocking(False)
            with contextlib.suppress(OSError):  # it is gone already
                await asyncio.get_running_loop().connect_accepted_socket(protocol, visitor)

        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """uvicorn closes connections whose request it has not read yet: the client sees a reset. Stop accepting,
            let what is under way become requests, close who has been silent, and then let uvicorn drain."""
            if self.settle:
                for each in sockets or ():
                    self._take_waiting(each)
            for server in self.servers:
                server.close()
            if self.settle:
                await self._see_off(asyncio.get_running_loop().time)
            await super().shutdown(sockets)

        def _take_waiting(self, listener: socket.socket) -> None:
            """Nobody may hold this socket after us, when the port was changed: who waits in its queue would be reset."""
            with contextlib.suppress(OSError):  # BlockingIOError: nobody does any more
                listener.setblocking(False)
                for _ in range(MOST):
                    self.receive(listener.accept()[0])

        async def _see_off(self, now: Callable[[], float]) -> None:
            config: Any = self.config
            began, most = now(), config.timeout_graceful_shutdown or 0.0
            await asyncio.sleep(min(self.settle, most))
            while now() - began < min(QUIET + 0.2, most) and (guests := self._idle()):
                for guest in guests:
                    if guest.silent:
                        guest.transport.close()
                await asyncio.sleep(0.05)
            config.timeout_graceful_shutdown = max(0.0, most - (now() - began))

        def _idle(self) -> list[Any]:
            return [one for one in self.server_state.connections if getattr(one, "idle", False)]

    return Server


@contextlib.contextmanager
def private_socket(path: str) -> Iterator[list[socket.socket]]:
    """Bound by hand: uvicorn would make it 0666. Removed at the end only if it is still ours: when the supervisor was
    killed, a worker of the next one may have the same number. Where it cannot be bound (no folder, a full disk) there is
    none: it is for people, the supervisor comes over the control socket."""
    sock, mine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), None
    old = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock.bind(path)
        mine = identity(path)
    except OSError as error:
        print(f"cannot listen on {path}: {error.strerror or error}; going on without it", file=sys.stderr)
    finally:
        os.umask(old)
    try:
        yield [sock] if mine else []
    finally:
        with contextlib.suppress(OSError):
            if mine and identity(path) == mine:
                os.unlink(path)


def identity(path: str) -> tuple[int, int]:
    """The number alone is given to the next file as soon as uvicorn has closed ours."""
    found = os.stat(path)
    return found.st_ino, found.st_ctime_ns
