"""The public listening socket: opened once, held for the supervisor's whole life, inherited by every worker."""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
from dataclasses import dataclass

import anyio
import psutil

from ccproxy_supervisor.core.known import known

BACKLOG = 1024  # macOS caps it at kern.ipc.somaxconn (128)


@dataclass
class ListenError(Exception):
    """The address cannot be listened on now; worth another try. Its text names who has it, if that can be seen: dear."""

    host: str
    port: int
    reason: str
    taken: bool

    @property
    def plain(self) -> str:
        return f"cannot listen on {self.host}:{self.port}: {self.reason}"

    def __str__(self) -> str:
        held = holder(self.host, self.port) if self.taken else None
        return f"{self.plain} (held by {held})" if held else self.plain


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises `ListenError`.

    TCP_NODELAY is inherited by what is accepted: without it streamed tokens wait for each other.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)  # all who share it share this: a copy of a blocking one would stop a worker's loop
    except OSError as error:
        sock.close()
        taken = error.errno == errno.EADDRINUSE
        raise ListenError(host, port, error.strerror or str(error), taken) from error
    return sock


def queued(listener: socket.socket) -> bool:
    """Whether connections wait there that nobody has accepted."""
    look = select.poll()
    look.register(listener, select.POLLIN)
    return bool(look.poll(0))


async def knocked(listener: socket.socket) -> None:
    """Return as soon as a connection waits there that nobody has accepted; until then it costs nothing."""
    with listener.dup() as ear:  # several may listen at once, but only one on each descriptor
        await anyio.wait_readable(ear)


def holder(host: str, port: int) -> str | None:
    """Name the process that listens on *port*: `pid 4711 (python3 -m http.server)`; None if we may not see it."""
    return known(lambda: _holder(host, port), None)  # macOS shows other processes' sockets to root only


def _holder(host: str, port: int) -> str | None:
    wanted = {host, "0.0.0.0", "::"}
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.pid is None:
            continue
        if connection.laddr.port != port:
            continue
        address = ipaddress.ip_address(connection.laddr.ip)
        if str(getattr(address, "ipv4_mapped", None) or address) in wanted:
            return f"pid {connection.pid} ({_command(connection.pid)})"
    return None


def _command(pid: int) -> str:
    process = known(lambda: psutil.Process(pid), None)
    if process is None:
        return "unknown"
    return known(lambda: " ".join(process.cmdline())[:200], "") or known(process.name, "unknown")
