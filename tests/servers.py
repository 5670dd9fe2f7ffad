"""Tiny servers on real sockets that say exactly what a test tells them to."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import SocketListener, SocketStream

Handler = Callable[[SocketStream], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, listener: SocketListener | None = None) -> AsyncIterator[str]:
    """Serve *handler* on a free loopback port, or on *listener*; yields the URL."""
    listener = listener or await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def once(stream: SocketStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            async with stream:
                await handler(stream)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, once)
        address = listener.extra(anyio.abc.SocketAttribute.local_address)
        yield f"http://{address[0]}:{address[1]}" if isinstance(address, tuple) else "http://worker"
        tasks.cancel_scope.cancel()


async def unix_listener(path: str) -> SocketListener:
    return await anyio.create_unix_listener(path)


async def head(stream: SocketStream) -> bytes:
    """Read up to the end of a request's head."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    return data


def says(*parts: bytes, pause: float = 0.0, hang: bool = False) -> Handler:
    """Answer every request with *parts*, *pause* seconds apart; then hang up, or just hang."""

    async def handler(stream: SocketStream) -> None:
        await head(stream)
        for part in parts:
            await stream.send(part)
            await anyio.sleep(pause)
        if hang:
            await anyio.sleep_forever()

    return handler


def answer(body: object, status: int = 200) -> bytes:
    """Spell a complete answer; what is not bytes becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data)
