"""An app on a port, or on a Unix socket."""

from __future__ import annotations

import errno
from collections.abc import Callable

import anyio
import anyio.to_thread

from ccproxy_supervisor.core.asgi import App
from ccproxy_supervisor.core.model import Journal, Note
from ccproxy_supervisor.edge.embedded.doors import UnixDoor, open_tcp, opened
from ccproxy_supervisor.edge.embedded.server import Server

LOOK = 2.0  # seconds between two looks at whether the socket is still there

Holder = Callable[[str, int], str | None]


async def serve_tcp(app: App, host: str, port: int, journal: Journal, holder: Holder = lambda *_: None) -> None:
    """Serve *app* until cancelled; while the port is taken, say so (*holder* may know by whom) and try again."""

    def complain(error: OSError) -> Note:
        reason = error.strerror or str(error)
        taken = error.errno == errno.EADDRINUSE
        fields = {"setting": "admin.port" if taken else "admin.host", "held_by": holder(host, port) if taken else None}
        error_text = f"cannot listen on {host}:{port}: {reason}; trying again"
        return Note("admin.port_taken" if taken else "admin.refused", "error", {"error": error_text, **fields})

    sock = await opened(lambda: open_tcp(host, port), complain, journal)
    journal(Note("admin.opened", fields={"host": host, "port": sock.getsockname()[1]}))
    await Server(app, journal).run_on(sock)


async def serve_unix(app: App, path: str, journal: Journal) -> None:
    """Serve *app* until cancelled on a socket that only its owner can open, and remove it. One that somebody else removes
    is made anew within `LOOK` seconds; what is being answered goes on."""

    def complain(error: OSError) -> Note:
        error_text = f"cannot listen on {path}: {error.strerror or error}; trying again"
        return Note("control.refused", "error", {"error": error_text, "setting": "admin.socket"})

    door = UnixDoor(path)
    server, sock = Server(app, journal), await opened(door.open, complain, journal)

    async def keep_reachable() -> None:
        while True:
            await anyio.sleep(LOOK)
            if not await anyio.to_thread.run_sync(door.there, abandon_on_cancel=True):
                await server.move_to(await opened(door.open, complain, journal))
                journal(Note("control.restored", "warning", {"path": path}))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_reachable)
            await server.run_on(sock)
    finally:
        door.remove()
