"""Sockets, descriptors and files: what is passed, inherited, kept and locked."""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from ccproxy_supervisor.edge.ground import FILES, make_room
from ccproxy_supervisor.edge.listener import open_listener
from ccproxy_supervisor.launcher.peer import peer
from ccproxy_supervisor.selftest.processes import line
from ccproxy_supervisor.selftest.step import Result, fails, holds, judged, noted

CROWD = 300  # clients that come at once
NEEDED = 100  # of them that must fit while nobody accepts: a worker is replaced in a tenth of a second
NEWS = 128 << 10  # bytes, as a control socket should hold


def descriptors() -> Result:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    got = make_room()
    opened = [os.dup(0) for _ in range(min(2000, got - 50))]
    for fd in opened:
        os.close(fd)
    most = "unlimited" if hard == resource.RLIM_INFINITY else hard
    return judged(got >= FILES, f"given {soft} of {most}, raised to {got}; {len(opened)} opened")


def backlog() -> Result:
    with open_listener("127.0.0.1", 0) as listener:
        clients = []
        for _ in range(CROWD):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            clients.append(client)
        waiting = select.poll()
        for client in clients:
            waiting.register(client, select.POLLOUT)
        count = sum(1 for _, events in waiting.poll(500) if events == select.POLLOUT)
        for client in clients:
            client.close()
    return judged(count >= NEEDED, f"{count} of {CROWD} clients fit while nobody accepts")


def inherited_option() -> Result:
    """Streamed tokens must not wait for each other: accepted sockets inherit it from their listener."""
    with open_listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        with listener.accept()[0] as accepted:
            return judged(bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)), "TCP_NODELAY is inherited")


def passing() -> Result:
    """A listener is handed over and serves on when its first owner has closed it, even while it is under way."""
    ours, theirs = socket.socketpair()
    listener = open_listener("127.0.0.1", 0)
    address = listener.getsockname()
    socket.send_fds(ours, [b"x"], [listener.fileno()])
    listener.close()  # while it is under way
    _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
    if not fds:
        return noted("lost when it is closed under way: the daemon keeps its own until the other side has met it")
    with socket.socket(fileno=fds[0]) as taken, socket.create_connection(address, timeout=2):
        taken.setblocking(True)
        taken.accept()[0].close()
    return holds("a listener that was closed while it was passed serves on")


def door() -> Result:
    """The kernel says who is at the other end."""
    with tempfile.TemporaryDirectory(prefix="cc-") as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/door.sock")
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/door.sock")
            return judged(peer(client) == (os.geteuid(), os.getpid()), "user and process of the other end are told")


def news() -> Result:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEWS)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NEWS)
    ours.setblocking(False)
    sent = ours.send(bytes(NEWS // 2))
    return judged(sent == NEWS // 2, f"{sent >> 10} of {NEWS >> 11} KiB go at once")


def lock() -> Result:
    """A home is locked by its folder, and given back by the kernel when its holder is killed."""
    hold = "import fcntl, os, sys; fd = os.open(sys.argv[1], 0); fcntl.flock(fd, 2); print('held', flush=True); input()"
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        command = [sys.executable, "-S", "-c", hold, folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            line(holder)
            fd = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fails("two processes have the lock of one folder")
            except BlockingIOError:
                holder.kill()
                holder.wait()
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(fd)
    return holds("one holder, and free when it is killed")


def spool() -> Result:
    """What a killed process wrote into a mapped file is there for the next one."""
    write = (
        "import mmap, os, sys; m = mmap.mmap(os.open(sys.argv[1], 2), 4096); m[:4] = b'kept'; os.kill(os.getpid(), 9)"
    )
    with tempfile.NamedTemporaryFile(prefix="cc-") as file:
        file.truncate(4096)
        done = subprocess.run([sys.executable, "-S", "-c", write, file.name], check=False)
        with mmap.mmap(file.fileno(), 4096) as memory:
            return judged(
                done.returncode == -signal.SIGKILL and memory[:4] == b"kept", "a mapped file outlives who wrote it"
            )


def spelling() -> Result:
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        (Path(folder) / "a").touch()
        return noted(f"the file system {'ignores' if (Path(folder) / 'A').exists() else 'heeds'} the case of letters")
