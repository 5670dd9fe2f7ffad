"""Who is at the other end of a Unix socket; the kernel says it."""

from __future__ import annotations

import socket
import struct
import sys

LOCAL_PEERCRED, LOCAL_PEERPID, SOL_LOCAL = 1, 2, 0  # of <sys/un.h> on macOS, which Python does not name


def peer(sock: socket.socket) -> tuple[int, int]:
    """Return the user and the process that opened the other end."""
    if sys.platform == "darwin":
        _version, uid = struct.unpack_from("II", sock.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, 128))  # struct xucred
        return uid, struct.unpack("i", sock.getsockopt(SOL_LOCAL, LOCAL_PEERPID, 4))[0]
    pid, uid, _gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid, pid
