"""A worker without a supervisor: it reads its own output, and waits for the next one, which takes it on as it is."""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from .peer import peer
from .spool import Full, Spool

PROTOCOL = 1  # what a supervisor must speak to take a worker on
PATIENCE = 15.0  # seconds for the next one to say that it does: it says so as soon as it has heard who we are
TAKEN = b"adopt\n"
WORDS = 128 << 10  # bytes that may wait until the next one listens: 8 KiB on macOS would not hold a thousand models
AGAIN = 1.0  # seconds between two looks whether our door is still there
PAUSE = 0.02  # seconds between two readings of our own output: nobody waits for it


class OrphanReader:
    """Reads what we write while nobody else does, so that no request waits for a full pipe; *ends* by stream."""

    def __init__(self, ends: dict[str, int], path: str, worker: int) -> None:
        self._ends, self._path, self._worker = ends, path, worker
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def ends(self) -> list[int]:
        return list(self._ends.values())

    def start(self) -> None:
        if self._ends and not self._thread:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, daemon=True, name="output")
            self._thread.start()

    def stop(self) -> None:
        """Have all that was written by now in the spool, and let another reader go on."""
        if self._thread:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        spool = self._open()
        while spool and not spool.claim(wait=False):  # the last reader is still dying
            if self._stop.wait(PAUSE):
                return
        while not self._stop.is_set():
            select.select(self.ends, [], [], 5 * PAUSE)
            self._read(spool)
            self._stop.wait(PAUSE)
        self._read(spool)
        if spool:
            spool.release()
            spool.close()

    def _open(self) -> Spool | None:
        for new in (False, True):
            with contextlib.suppress(OSError):
                return Spool(self._path, self._worker, new=new)
        return None

    def _read(self, spool: Spool | None) -> None:
        """Read all there is; what finds no room is lost, and counted."""
        for stream, fd in self._ends.items():
            with contextlib.suppress(BlockingIOError):
                while _once(spool, stream, fd):
                    pass


def _once(spool: Spool | None, stream: str, fd: int) -> int:
    if spool is None:
        return len(os.read(fd, 1 << 16))
    try:
        return spool.lanes[stream].read(fd)
    except Full:
        return spool.lanes[stream].drop(fd)


class AdoptionSocket:
    """A Unix socket by which the next supervisor finds us, at *path*; put back while we wait if somebody removes it."""

    def __init__(self, path: str) -> None:
        self._path, self._mine, self._shut = path, (0, 0), False
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open()

    def wait(
        self, seconds: float, hello: Callable[[], dict[str, Any]], fds: Callable[[], list[int]]
    ) -> socket.socket | None:
        """Return the socket of the first of our user that takes us on within *seconds*; None if nobody does."""
        deadline = time.monotonic() + seconds
        while not self._shut and (left := deadline - time.monotonic()) > 0:
            self._open()
            try:
                self._sock.settimeout(min(left, AGAIN))
                sock, _ = self._sock.accept()
                if self._takes_on(sock, hello, fds):
                    return sock
            except TimeoutError:
                continue
            except (OSError, ValueError):  # it went away, or there is no door
                time.sleep(PAUSE)
        return None

    def _takes_on(self, sock: socket.socket, hello: Callable[[], dict[str, Any]], fds: Callable[[], list[int]]) -> bool:
        with contextlib.ExitStack() as closing:
            closing.enter_context(sock)
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WORDS)
            if peer(sock)[0] != os.geteuid() or not self._offer(sock, hello(), fds()):
                return False
            sock.settimeout(None)
            closing.pop_all()
        return True

    def shut(self) -> None:
        """Who looks for us from now on looks in vain."""
        self._shut = True
        with contextlib.suppress(OSError):
            if self._seen() == self._mine:
                os.unlink(self._path)

    def _open(self) -> None:
        """Be there: not if somebody else is, whose number is ours because our folder was taken away."""
        with contextlib.suppress(OSError):
            if self._seen() is not None:
                return
            self._sock.close()
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            old = os.umask(0o177)
            try:
                self._sock.bind(self._path)
            finally:
                os.umask(old)
            self._sock.listen(4)
            self._mine = self._seen() or (0, 0)

    def _seen(self) -> tuple[int, int] | None:
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._path)
            return found.st_ino, found.st_ctime_ns
        return None

    def _offer(self, sock: socket.socket, hello: dict[str, Any], fds: list[int]) -> bool:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        sock.sendmsg([json.dumps(hello).encode() + b"\n"], rights)
        heard = b""
        while len(heard) < len(TAKEN) and (more := sock.recv(len(TAKEN) - len(heard))):
            heard += more
        return heard == TAKEN
