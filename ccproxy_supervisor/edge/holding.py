"""Answers 503 on the public socket while nobody serves, in the shape the client's API speaks."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import anyio
import h11

HEAD = 64 << 10  # bytes of a request's head
BODY = 64 << 20  # bytes read so that the client, still sending, gets to read the answer; images make long prompts
PATIENCE = 5.0  # seconds for a request to arrive
HURRY = 0.1  # seconds that are left to who is hurried: it may have come this moment
LINGER = 1.0  # seconds for the client to take the answer and hang up
AT_ONCE = 128  # connections; for more, the oldest that has said the least is waited for no longer
RETRY_AFTER = 5  # seconds
MESSAGE = f"No worker of this proxy is ready to serve. Retry in {RETRY_AFTER} seconds."


class Visit:
    """A connection and the wait it is in. *rank*: 0 has asked nothing yet, 1 its request is not whole, 2 is answered."""

    def __init__(self, client: socket.socket) -> None:
        self.client, self.rank, self.whole = client, 0, anyio.CancelScope(shield=True)
        self.hurried, self._wait = False, anyio.CancelScope()

    def hurry(self) -> None:
        """Wait hardly any longer for what it has to say, or to take the answer."""
        self.hurried = True
        self._wait.deadline = anyio.current_time() + HURRY

    def _patient(self, seconds: float) -> anyio.CancelScope:
        self._wait.deadline = anyio.current_time() + (HURRY if self.hurried else seconds)
        return self._wait

    async def hear(self) -> bytes | None:
        """Take in a request as far as it comes in time, and return what to answer; None: nothing was asked."""
        heard: list[bytes] = []
        with self._patient(PATIENCE):
            async for answer in _read(self.client):
                heard.append(answer)
                self.rank = 1
        self.rank, self.hurried, self._wait = 2, False, anyio.CancelScope()
        return heard[0] if heard else None

    async def hang_up(self) -> None:
        """Wait for the client to close: closing on unread bytes would reset the connection, and the answer with it."""
        self.client.shutdown(socket.SHUT_WR)
        with self._patient(LINGER):
            while await _receive(self.client):
                pass


class Holding:
    """*answered* counts the requests it answered."""

    def __init__(self) -> None:
        self.answered = 0
        self._visits: dict[Visit, None] = {}  # the oldest first

    async def run(self, listener: socket.socket) -> None:
        """Accept until cancelled; what was accepted is answered all the same, if it comes to an end in `LINGER`."""
        with listener.dup() as mine:
            mine.setblocking(False)
            async with anyio.create_task_group() as tasks:
                try:
                    while True:
                        self._visits[visit := Visit(await _accept(mine))] = None
                        tasks.start_soon(self._answer, visit)
                        if len(self._visits) >= AT_ONCE:
                            min(self._visits, key=lambda visit: (visit.hurried, visit.rank)).hurry()
                finally:
                    for visit in self._visits:
                        visit.whole.deadline = min(visit.whole.deadline, anyio.current_time() + LINGER)

    async def _answer(self, visit: Visit) -> None:
        with visit.whole, visit.client:
            try:
                if answer := await visit.hear():
                    visit.client.send(answer)
                    self.answered += 1
                    await visit.hang_up()
            except OSError:
                pass  # the client is gone
            finally:
                del self._visits[visit]


async def _accept(listener: socket.socket) -> socket.socket:
    while True:
        await anyio.wait_readable(listener)
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue  # a worker was faster, or the client gave up
        except OSError:
            await anyio.sleep(0.1)  # out of descriptors: others will close theirs
            continue
        client.setblocking(False)
        return client


async def _read(client: socket.socket) -> AsyncIterator[bytes]:
    """Read to the end of a request, or to `BODY`; give the answer as soon as it is known."""
    connection, total = h11.Connection(h11.SERVER, HEAD), 0
    while total <= BODY:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            yield reply("GET", "/")
            return
        if isinstance(event, h11.Request):
            yield reply(event.method.decode(), event.target.decode())
            if connection.they_are_waiting_for_100_continue:
                return
        elif event is h11.NEED_DATA:
            data = await _receive(client)
            total += len(data)
            if not data:
                return
            connection.receive_data(data)
        elif not isinstance(event, h11.Data):
            return


async def _receive(client: socket.socket) -> bytes:
    while True:
        try:
            return client.recv(1 << 16)
        except BlockingIOError:
            await anyio.wait_readable(client)


def reply(method: str, target: str) -> bytes:
    """Spell the answer to a request for *target*."""
    body = b"" if method == "HEAD" else json.dumps(_anthropic() if "/v1/messages" in target else _openai()).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Retry-After: {RETRY_AFTER}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


def _anthropic() -> dict[str, Any]:
    return {"type": "error", "error": {"type": "overloaded_error", "message": MESSAGE}}


def _openai() -> dict[str, Any]:
    return {"error": {"message": MESSAGE, "type": "service_unavailable", "param": None, "code": "service_unavailable"}}
