"""Imports the application once and forks workers: a start takes tenths of a second, and workers share what was imported.

It serves nobody and has no thread, loop or connection when it forks: none of them would live on in a worker. On the control
socket we are told, a line of JSON each, `{"start": [word, …], "fds": [name, …], "env": {…}}` with as many descriptors, and
`{"ping": 1}`; we say `imported`, `started` (or `refused`), `ended` and `pong`. Its end means that the supervisor is dead:
leave; the workers see to themselves.

    … python launcher/__main__.py --preload-fd 5
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from .serve import arguments, load, work

LONGEST = 1 << 20  # bytes of one order
FDS = 16


class Preloader:
    """*work* makes this process a worker: it is given the worker's words and what to do once it is warm."""

    def __init__(self, control: socket.socket, app: Any, work: Callable[[list[str], Callable[[], None]], None]) -> None:
        self._control, self._app, self._work = control, app, work
        self._wake, wake = socket.socketpair()
        wake.setblocking(False)
        self._wake.setblocking(False)
        self._wakers = wake  # kept: set_wakeup_fd does not
        self._reports: list[socket.socket] = []
        self._learned = False
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno())

    def run(self) -> None:
        """Fork what is asked for until the control socket ends."""
        build_routes(self._app)
        settle()
        self.say(imported=len(sys.modules), alone=alone())
        buffer, fds = b"", []
        while True:
            ready, _, _ = select.select([self._control, self._wake, *self._reports], [], [])
            if self._wake in ready:
                self._reap()
            for report in [each for each in ready if each in self._reports]:
                self._learn(report)
            if self._control not in ready:
                continue
            data, more, _, _ = socket.recv_fds(self._control, 1 << 16, FDS)
            for fd in more:
                os.set_inheritable(fd, False)
            fds += more
            buffer += data
            if not data or len(buffer) > LONGEST:
                os._exit(0)
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                order = json.loads(line)
                if "start" in order:
                    given, fds = fds[: len(order["fds"])], fds[len(order["fds"]) :]
                    self._start(order, given)
                else:
                    self.say(pong=1)

    def say(self, **word: Any) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: the next read says so
            self._control.sendall(json.dumps(word).encode() + b"\n")

    def _start(self, order: dict[str, Any], fds: list[int]) -> None:
        """Answer with the new worker's pid, or why there is none."""
        try:
            if not alone():
                raise RuntimeError("a thread runs")
            report = self._first_report()
            pid = os.fork()
        except (OSError, RuntimeError) as error:
            self.say(refused=str(error))
        else:
            if pid == 0:
                self._become(order, fds, report)
            if report:
                report.close()
            self.say(started=pid)
        finally:
            for fd in fds:
                os.close(fd)

    def _first_report(self) -> socket.socket | None:
        """The first worker tells what its first requests imported: the next ones shall have it from the start."""
        if self._reports or self._learned:
            return None
        ours, theirs = socket.socketpair()
        self._reports.append(ours)
        return theirs

    def _become(self, order: dict[str, Any], fds: list[int], report: socket.socket | None) -> None:
        """Be a worker, in a session of its own. Never returns: this stack belongs to the preloader."""
        status = 3
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            for mine in (self._control, self._wake, self._wakers, *self._reports):
                mine.close()
            words = list(order["start"])
            for name, fd in zip(order["fds"], fds, strict=True):
                if name in ("stdout", "stderr"):
                    os.dup2(fd, 1 if name == "stdout" else 2)
                    os.close(fd)
                else:
                    words += [name, str(fd)]
            os.environ.update(order["env"])
            known = set(sys.modules)
            self._work(words, lambda: tell(report, known) if report else None)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 3
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _learn(self, report: socket.socket) -> None:
        self._reports.remove(report)
        with report, report.makefile("rb") as file:
            names = file.read(LONGEST).decode(errors="replace").split()
        self._learned = bool(names)  # else that worker died before it was warm, and the next one tells
        for name in names:
            with contextlib.suppress(BaseException):  # a worker of its own could; then that one does it again
                importlib.import_module(name)
        settle()

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self.say(ended=pid, status=os.waitstatus_to_exitcode(status))


@contextlib.contextmanager
def leaving_with(control: socket.socket) -> Iterator[None]:
    """Leave as soon as the other end is closed, in the middle of an import too: it takes seconds of a core, and the next
    supervisor starts one of its own. By a signal, for a thread would be there when we fork."""

    def look(*_: object) -> None:
        poll = select.poll()
        poll.register(control, 0)
        if poll.poll(0):
            os._exit(0)

    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    signal.signal(signal.SIGIO, look)
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
    look()
    try:
        yield
    finally:
        fcntl.fcntl(control, fcntl.F_SETFL, flags)
        signal.signal(signal.SIGIO, signal.SIG_DFL)


def tell(report: socket.socket, known: set[str]) -> None:
    """Name what was imported since the fork and comes with the environment: a handler of the config's is the worker's own."""
    own = tuple({os.path.realpath(path) + os.sep for path in (sys.prefix, sys.base_prefix)})
    new = [
        name
        for name, module in list(sys.modules.items())
        if name not in known and os.path.realpath(getattr(module, "__file__", None) or "").startswith(own)
    ]
    with report, contextlib.suppress(OSError):
        report.sendall(" ".join(new).encode()[:LONGEST])


def build_routes(app: Any) -> None:
    """FastAPI works out what a route takes when it is first compared with a request: two seconds for LiteLLM's hundreds."""
    scope = {"type": "http", "method": "POST", "path": "/ccproxy-nowhere", "root_path": "", "headers": []}
    for route in getattr(getattr(app, "router", None), "routes", ()):
        with contextlib.suppress(Exception):  # the first request does it then
            route.matches(dict(scope))


def settle() -> None:
    """Keep the collector's hands off what is shared: each object that it touches becomes a worker's own page."""
    gc.collect()
    gc.freeze()


def alone() -> bool:
    """Whether no thread but this one runs, native ones included where the kernel shows them."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task")) == 1
    return threading.active_count() == 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preload-fd", type=int, required=True)
    parser.add_argument("--app", default="litellm.proxy.proxy_server:app")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGHUP):  # ^C in a terminal is for the supervisor
        signal.signal(number, signal.SIG_IGN)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's, which LiteLLM imports, starts a thread a core at once
    control = socket.socket(fileno=args.preload_fd)
    with leaving_with(control):
        app = load(args.app)
    Preloader(control, app, lambda words, warmed: work(arguments(words), lambda: app, warmed)).run()
