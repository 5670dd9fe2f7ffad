"""Serves an ASGI app inside the daemon's event loop: takes no signals, does not tick, bounds every client."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
import traceback
from collections.abc import Callable, Iterator

import anyio
import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ccproxy_supervisor.core.model import Journal, Note

PATIENCE = 5.0  # seconds a client gets for a request's head, and for taking the answer
KEEP_ALIVE = 5  # seconds between two requests
HEAD = 16 << 10  # bytes of a request's head
CONNECTIONS = 64  # for one more, the oldest that has nothing asked is dropped: the daemon has few descriptors
LOOK = 2.0  # seconds between two looks at whether the socket is still there
FIRST_RETRY, LONGEST_RETRY = 1.0, 5.0  # seconds

Holder = Callable[[str, int], str | None]


class Bounded(H11Protocol):
    """Drops a connection that does nothing: uvicorn has a timer between requests, but none before or within one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.made = self.loop.time()
        self._timer = self.loop.call_later(PATIENCE, self._look, None)
        if len(self.connections) > CONNECTIONS:
            others = (each for each in self.connections if isinstance(each, Bounded) and not each.working)
            min(others, key=lambda each: each.made).transport.abort()  # this one at least

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    @property
    def working(self) -> bool:
        """Whether a request is being answered, to somebody who takes the answer."""
        return self.cycle is not None and not self.cycle.response_complete and not self.flow.write_paused

    def _look(self, last: object) -> None:
        """Keep it only if it is working, or a request came since the *last* one seen."""
        if self.transport.is_closing() or (self.cycle is last and not self.working):
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(PATIENCE, self._look, self.cycle)


class Quiet(uvicorn.Server):
    """A server that is ended by cancelling it."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=Bounded,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level=logging.CRITICAL + 1,  # what matters goes to the journal; noise from clients is theirs
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                workers=1,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=HEAD,
            )
        )
        self.servers = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the daemon."""
        yield

    async def main_loop(self) -> None:
        """Wait; uvicorn's own loop wakes up ten times a second."""
        await anyio.sleep_forever()

    async def move_to(self, sock: socket.socket) -> None:
        """Accept on *sock* from now on; what was accepted before is not disturbed."""
        old = self.servers
        await self.startup([sock])
        for server in old:
            server.close()

    async def run_on(self, sock: socket.socket) -> None:
        """Serve until cancelled, then let what is being answered finish."""
        try:
            await self.serve(sockets=[sock])
        finally:
            with anyio.CancelScope(shield=True):
                await self.shutdown([sock])


async def serve_tcp(app: ASGIApp, host: str, port: int, journal: Journal, holder: Holder = lambda *_: None) -> None:
    """Serve *app* until cancelled; while the port is taken, say so (*holder* may know by whom) and try again."""

    def complain(error: OSError) -> Note:
        reason = error.strerror or str(error)
        taken = error.errno == errno.EADDRINUSE
        fields = {"setting": "admin.port" if taken else "admin.host", "held_by": holder(host, port) if taken else None}
        error_text = f"cannot listen on {host}:{port}: {reason}; trying again"
        return Note("admin.port_taken" if taken else "admin.refused", "error", {"error": error_text, **fields})

    sock = await _open(lambda: _open_tcp(host, port), complain, journal)
    journal(Note("admin.opened", fields={"host": host, "port": sock.getsockname()[1]}))
    await Quiet(_telling(app, journal)).run_on(sock)


async def serve_unix(app: ASGIApp, path: str, journal: Journal) -> None:
    """Serve *app* until cancelled on a socket that only its owner can open, and remove it. One that somebody else removes
    is made anew within `LOOK` seconds; what is being answered goes on."""

    def complain(error: OSError) -> Note:
        error_text = f"cannot listen on {path}: {error.strerror or error}; trying again"
        return Note("control.refused", "error", {"error": error_text, "setting": "admin.socket"})

    door = UnixDoor(path)
    server, sock = Quiet(_telling(app, journal)), await _open(door.open, complain, journal)

    async def keep_reachable() -> None:
        while True:
            await anyio.sleep(LOOK)
            if not await anyio.to_thread.run_sync(door.there, abandon_on_cancel=True):
                await server.move_to(await _open(door.open, complain, journal))
                journal(Note("control.restored", "warning", {"path": path}))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_reachable)
            await server.run_on(sock)
    finally:
        door.remove()


def _telling(app: ASGIApp, journal: Journal) -> ASGIApp:
    """Tell the journal of a bug in *app*, which has answered 500 by then."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except h11.LocalProtocolError:
            pass  # the client broke the protocol while it was being answered
        except Exception as error:  # a bug on one page must not be the daemon's
            trace = "".join(traceback.format_exception(error, limit=-5))
            journal(Note("admin.failed", "error", {"path": scope["path"], "error": repr(error), "traceback": trace}))

    return told


async def _open(
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


def _open_tcp(host: str, port: int) -> socket.socket:
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
