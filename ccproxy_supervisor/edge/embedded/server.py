"""HTTP/1.1 for a few clients, by asyncio's streams and h11."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import anyio
import h11

from ccproxy_supervisor.core.asgi import App, Message, Scope
from ccproxy_supervisor.core.model import Journal, Note

PATIENCE = 5.0  # seconds a client gets for a request's head, from one to the next, and for taking the answer
HEAD = 16 << 10  # bytes of a request's head
CONNECTIONS = 64  # for one more, the oldest that has nothing asked is dropped: the daemon has few descriptors
GRACE = 2.0  # seconds for what is being answered when the server ends


class Server:
    """Ended by cancelling it. Bugs of *app* go to the journal; clients' noise goes nowhere."""

    def __init__(self, app: App, journal: Journal) -> None:
        self._app, self._journal = app, journal
        self._door: asyncio.Server | None = None
        self._visits: dict[Visit, None] = {}  # the oldest first
        self._empty: anyio.Event | None = None

    async def run_on(self, sock: socket.socket) -> None:
        """Serve until cancelled, then let what is being answered finish."""
        try:
            await self.move_to(sock)
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish()

    async def move_to(self, sock: socket.socket) -> None:
        """Accept on *sock* from now on; what was accepted before is not disturbed."""
        before = self._door
        with anyio.CancelScope(shield=True):  # or nobody would close it
            self._door = await asyncio.start_server(self._welcome, sock=sock)
        if before:
            before.close()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(reader, writer)
        self._visits[visit] = None
        if len(self._visits) > CONNECTIONS:
            next(each for each in self._visits if not each.working).drop()  # this one at least
        try:
            while await visit.exchange(self._serve) and not self._empty:
                pass
        except (OSError, h11.ProtocolError):
            pass  # the client is gone, or does not speak HTTP
        finally:
            writer.close()
            del self._visits[visit]
            if self._empty and not self._visits:
                self._empty.set()

    async def _serve(self, visit: Visit, scope: Scope) -> None:
        try:
            await self._app(scope, visit.receive, visit.send)
        except (OSError, h11.ProtocolError):
            raise
        except Exception as error:  # a bug on one page must not be the daemon's
            trace = "".join(traceback.format_exception(error, limit=-5))
            told = {"path": scope["path"], "error": repr(error), "traceback": trace}
            self._journal(Note("admin.failed", "error", told))

    async def _finish(self) -> None:
        if self._door:
            self._door.close()
        self._empty = anyio.Event()
        for visit in [each for each in self._visits if not each.working]:
            visit.drop()
        if self._visits:
            with anyio.move_on_after(GRACE):
                await self._empty.wait()
        for visit in self._visits:
            visit.drop()


class Visit:
    """A connection; *working* while a request is being answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self.working = reader, writer, False
        self._http = h11.Connection(h11.SERVER, HEAD)
        self._method = b""
        writer.transport.set_write_buffer_limits(0)  # what is drained is taken

    def drop(self) -> None:
        self._writer.transport.abort()

    async def exchange(self, serve: Callable[[Visit, Scope], Awaitable[None]]) -> bool:
        """Answer one request; returns whether there may be another."""
        request = None
        with anyio.move_on_after(PATIENCE):
            request = await self._asked()
        if request is None:
            return False
        self._method, self.working = request.method, True
        await serve(self, _scope(request))
        self.working = False
        with anyio.move_on_after(PATIENCE) as taking:
            await self._writer.drain()
        if taking.cancelled_caught:
            self.drop()
        with anyio.move_on_after(PATIENCE):
            await self._hear_out()
        if not self._heard_out() or self._http.our_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def receive(self) -> Message:
        event = await self._event() if self._http.their_state is h11.SEND_BODY else None
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            closing = () if self._heard_out() else ((b"connection", b"close"),)
            self._say(h11.Response(status_code=message["status"], headers=[*message["headers"], *closing]))
            return
        if message["body"] and self._method != b"HEAD":
            self._say(h11.Data(message["body"]))
        if not message.get("more_body"):
            self._say(h11.EndOfMessage())

    async def _asked(self) -> h11.Request | None:
        try:
            event = await self._event()
        except h11.RemoteProtocolError:
            self._say(h11.Response(status_code=400, headers=[("content-length", "0"), ("connection", "close")]))
            self._say(h11.EndOfMessage())
            return None
        return event if isinstance(event, h11.Request) else None

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._say(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(HEAD))
        return event

    async def _hear_out(self) -> None:
        """Wait for a body that nobody wanted: to close while it is on its way would take back the answer too."""
        room = HEAD
        while self._http.their_state is h11.SEND_BODY and room > 0:
            event = await self._event()
            room -= len(event.data) if isinstance(event, h11.Data) else 0

    def _heard_out(self) -> bool:
        """Whether the request has come to its end; what has come of a body that nobody wanted is passed over."""
        while self._http.their_state is h11.SEND_BODY and self._http.next_event() is not h11.NEED_DATA:
            pass
        return self._http.their_state is h11.DONE

    def _say(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)


def _scope(request: h11.Request) -> Scope:
    target, _, query = request.target.partition(b"?")
    asked = {"method": request.method.decode(), "path": unquote(target.decode("latin-1")), "query_string": query}
    return {"type": "http", **asked, "headers": list(request.headers)}
