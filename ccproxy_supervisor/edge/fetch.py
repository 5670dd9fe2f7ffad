"""One bounded HTTP/1.1 request over TCP or a Unix socket; what goes wrong is an answer too."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

import anyio
import h11
from anyio.abc import SocketStream, UNIXSocketStream
from anyio.streams.tls import TLSStream

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.model import UNASKED

HEADS = 1 << 16  # bytes an answer may take beside its body: status lines, headers, chunk sizes
ASIDE = 8 << 10  # what a 100 Continue counts for among those bytes: an endless row of them must end soon
PIECES = 5000  # parts an answer may come in: taking one apart costs more than its bytes
OWN = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)  # what we lack, and not the other side
THEIRS = (errno.EPIPE, errno.ECONNREFUSED, errno.ECONNRESET, errno.EAGAIN)  # of a connection made for us
PORTS = {"http": 80, "https": 443}

Headers = Iterable[tuple[str, str]]


class _NoAnswerError(Exception):
    """Carries a probe reason and a detail out of the exchange."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


async def fetch(
    url: str,
    *,
    unix: str | None = None,
    over: Callable[[], socket.socket] | None = None,
    method: str = "GET",
    headers: Headers = (),
    body: bytes = b"",
    timeout: float,
    limit: int = 1 << 20,
) -> Answer | Failure:
    """Ask once, on a connection of its own, through the socket at *unix* or what *over* connects, if given; raise nothing
    but cancellation.

    *timeout* bounds everything from name lookup to the last byte, *limit* the bytes of the body.
    """
    begun, outcome = anyio.current_time(), _NoAnswerError("timeout", f"no complete answer in {timeout:g} s")
    with anyio.move_on_after(timeout):
        try:
            address = _address(url)
            request = _request(address, method, headers, body)
            async with await _connect(address, unix, over) as stream:
                head, data = await _exchange(stream, request, body, limit)
                return Answer(head.status_code, data, anyio.current_time() - begun, tuple(head.headers))
        except _NoAnswerError as fault:
            outcome = fault
        except (OSError, anyio.ClosedResourceError) as error:
            outcome = _NoAnswerError("garbage", f"connection lost: {error}")
        except Exception as error:  # no memory, no thread to look up a name: nothing that the other side could help
            outcome = _NoAnswerError(UNASKED, f"cannot ask: {error!r}"[:200])
    return Failure(outcome.reason, outcome.detail, anyio.current_time() - begun)


def _address(url: str) -> SplitResult:
    with suppress(ValueError):
        address = urlsplit(url)
        if address.scheme in PORTS and address.hostname and address.port != 0:
            return address
    raise _NoAnswerError("refused", "cannot connect: not an http:// or https:// address")


def _request(address: SplitResult, method: str, headers: Headers, body: bytes) -> h11.Request:
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    host = address.netloc.rpartition("@")[2]
    fields = [("Host", host), ("Connection", "close"), *headers]
    if body:
        fields.append(("Content-Length", str(len(body))))
    try:
        return h11.Request(method=method, target=target, headers=fields)
    except (h11.LocalProtocolError, UnicodeError):  # its text would repeat the header, a key perhaps
        raise _NoAnswerError(
            "garbage", "cannot send the request: illegal character in its address or headers"
        ) from None


async def _connect(
    address: SplitResult, unix: str | None, over: Callable[[], socket.socket] | None
) -> SocketStream | TLSStream:
    try:
        if over is not None:
            return await _visit(over)
        if unix is not None:
            return await anyio.connect_unix(unix)
        host, port = str(address.hostname), address.port or PORTS[address.scheme]
        if address.scheme == "https":
            return await anyio.connect_tcp(host, port, tls=True, tls_standard_compatible=False)
        return await anyio.connect_tcp(host, port)
    except OSError as error:
        cause = _cause(error)
        reason = UNASKED if isinstance(cause, OSError) and cause.errno in OWN else "refused"
        raise _NoAnswerError(reason, f"cannot connect: {_words(cause)}") from None
    except UnicodeError:
        raise _NoAnswerError("refused", "cannot connect: no such host name") from None


async def _visit(over: Callable[[], socket.socket]) -> SocketStream:
    try:
        return await UNIXSocketStream.from_socket(over())
    except OSError as error:
        reason = "refused" if error.errno in THEIRS else UNASKED
        raise _NoAnswerError(reason, f"cannot connect: {_words(error)}") from None


def _cause(error: OSError) -> BaseException:
    """Return what the libraries hide behind words of their own, in a group when there were several addresses."""
    cause: BaseException = error
    while cause.__cause__ or isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause
    return cause


def _words(cause: BaseException) -> str:
    if not isinstance(cause, OSError) or isinstance(cause, (socket.gaierror, ssl.SSLError)):
        return str(cause)
    return os.strerror(cause.errno) if cause.errno else str(cause)


async def _exchange(
    stream: SocketStream | TLSStream, request: h11.Request, body: bytes, limit: int
) -> tuple[h11.Response, bytes]:
    connection = h11.Connection(h11.CLIENT)
    sent = [connection.send(request), connection.send(h11.Data(body)), connection.send(h11.EndOfMessage())]
    with suppress(anyio.BrokenResourceError):  # the answer may be there though the request was not read whole
        await stream.send(b"".join(part for part in sent if part))
    data, room = bytearray(), limit + HEADS
    for _ in range(PIECES):
        match event := _next(connection):
            case h11.NEED_DATA:
                received = await _receive(stream)
                room -= len(received)
                connection.receive_data(received)
            case h11.InformationalResponse():
                room -= ASIDE
            case h11.Response():
                head = event
            case h11.Data():
                data += event.data
            case h11.EndOfMessage():
                return head, bytes(data)
            case h11.PAUSED | h11.ConnectionClosed():
                raise _NoAnswerError("garbage", "connection closed before the answer was complete")
        if len(data) > limit or room < 0:
            raise _NoAnswerError("too_large", f"answered more than {limit} bytes")
    raise _NoAnswerError("too_large", f"answered in more than {PIECES} pieces")


def _next(connection: h11.Connection) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        if error.error_status_hint == 431:
            raise _NoAnswerError("too_large", "answered with too large a head") from None
        raise _NoAnswerError("garbage", f"not an HTTP answer: {error}"[:200]) from None


async def _receive(stream: SocketStream | TLSStream) -> bytes:
    """Return what came; empty at the end, which `h11` judges."""
    try:
        return await stream.receive()
    except anyio.EndOfStream:
        return b""
    except anyio.BrokenResourceError:
        raise _NoAnswerError("garbage", "connection lost before the answer was complete") from None
