"""Runs inside LiteLLM's own interpreter: one worker with a private socket and a gated public one.

Needs the standard library, uvicorn and the application; imports nothing of ours. Python >= 3.10.

    CONFIG_FILE_PATH=… python launcher.py --number 3 --control-fd 5 --public-fd 6 --log-fd 7 --uds run/w3.sock --drain 30

The control descriptor is one end of a socket pair. We are told `activate` (accept on the public socket) and
`drain SECONDS` (stop accepting, finish, leave); its end means that the supervisor is dead: drain and leave. We say
`ready` (the private socket answers and the first request will not be slow), `accepting` and `draining`.
SIGTERM drains too. Exit status: 0 drained, 75 requests were cut at the deadline, 3 start-up failed, 70 event loop stuck.

uvicorn >= 0.33 is reached through Config, Server.serve(sockets=), started, should_exit, and two overrides:
capture_signals (two servers share a loop and the signals are ours) and shutdown (reads self.servers).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

SETTLE = 0.5  # seconds between closing the listener and draining, see Server.shutdown
WARM_UP = {"model": "ccproxy-warm-up", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}], "no-log": True}
CUT, STUCK = 75, 70
LONGEST = 8000  # characters of a traceback; LiteLLM's routes are frames by the hundred, and the end tells


class LogLines(logging.Handler):
    """One JSON object a record; an unread pipe is the supervisor's business, a closed one is nobody's."""

    def __init__(self, fd: int, worker: int) -> None:
        super().__init__()
        self.fd, self.worker = fd, worker

    def emit(self, record: logging.LogRecord) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{stamp}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        with contextlib.suppress(Exception):  # a log line must never fail a request
            message, trace = record.getMessage(), ""
            if record.exc_info and record.exc_info[0]:
                trace = "".join(traceback.format_exception(*record.exc_info))
            elif message.startswith("Traceback"):  # uvicorn, of a failed start: the reason is its last line
                message, trace = message.rstrip().rpartition("\n")[2], message
            line |= {"logger": record.name, "worker": self.worker, "message": message}
            if trace:
                line["exception"] = trace if len(trace) <= LONGEST else trace[-LONGEST:].partition("\n")[2]
            os.write(self.fd, json.dumps(line, ensure_ascii=False, default=str).encode(errors="replace") + b"\n")

    def adopt_loggers(self) -> None:
        """Take over LiteLLM's handlers with their redaction filters, and uvicorn's records by way of the root."""
        for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router"):
            logger = logging.getLogger(name)
            if level := os.environ.get("LITELLM_LOG"):  # heeded by LiteLLM's own command only
                logger.setLevel(level.upper())
            for old in [h for h in logger.handlers if not isinstance(h, LogLines)]:
                own = LogLines(self.fd, self.worker)
                own.filters, logger.propagate = old.filters, False
                logger.removeHandler(old)
                logger.addHandler(own)
        logging.getLogger("uvicorn").setLevel(logging.INFO)
        if self not in logging.root.handlers:
            logging.root.addHandler(self)


class Control:
    """Orders from the supervisor and from signals; they may come long before there is a loop."""

    def __init__(self, fd: int, drain: float) -> None:
        self.fd, self.drain, self.cut = fd, drain, 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.activated, self.leaving = asyncio.Event(), asyncio.Event()
        self._armed = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C in a terminal is for the supervisor
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self.obey("drain"))
        threading.Thread(target=self._read, daemon=True, name="control").start()

    def say(self, word: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self.fd, word.encode() + b"\n")

    def obey(self, order: str) -> None:
        word, _, seconds = order.partition(" ")
        if word == "drain":
            self.drain = float(seconds or self.drain)
            self._arm()
        if self.loop is None:
            if word == "drain":
                os._exit(0)  # nothing served yet, nothing to drain
            self.activated.set()
            return
        event = self.activated if word == "activate" else self.leaving
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving already
            self.loop.call_soon_threadsafe(event.set)

    def _read(self) -> None:
        buffer = b""
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            if not data:
                return self.obey("drain")
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self.obey(line.decode())

    def _arm(self) -> None:
        """The loop may be stuck in a blocking call: a thread ends the process regardless."""
        if not self._armed:
            self._armed = True
            deadline = threading.Timer(self.drain + 10, os._exit, (STUCK,))
            deadline.daemon = True
            deadline.start()


class Private:
    """The application as it is; remembers the lifespan state it made."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.state: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.state = scope.setdefault("state", {})
        await self.app(scope, receive, send)


class Public:
    """The application behind the shared listener.

    `Connection: close` on every answer: a client or Traefik must not keep a connection to a worker that may drain,
    and each new connection is free to go to whichever worker accepts it.
    """

    def __init__(self, private: Private, control: Control) -> None:
        self.private, self.control = private, control

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def close_after(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        scope["state"] = {**self.private.state, **(scope.get("state") or {})}
        try:
            await self.private.app(scope, receive, close_after if scope["type"] == "http" else send)
        except asyncio.CancelledError:
            self.control.cut += 1
            raise


def server_class() -> Any:
    """uvicorn is imported late: until then only the control thread has to work."""
    import uvicorn

    class Server(uvicorn.Server):
        settle = 0.0

        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """uvicorn closes accepted connections whose request it has not read yet: the client sees a reset.
            Stop accepting, give those a moment to become requests, then let uvicorn drain."""
            for server in self.servers:
                server.close()
            await asyncio.sleep(self.settle)
            await super().shutdown(sockets)

    return Server


@contextlib.contextmanager
def private_socket(path: str) -> Iterator[socket.socket]:
    """Bound by hand: uvicorn would make it 0666. Removed at the end only if it is still ours: when the supervisor was
    killed, a worker of the next one may have the same number."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    old = os.umask(0o177)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path)
    finally:
        os.umask(old)
    mine = identity(path)
    try:
        yield sock
    finally:
        with contextlib.suppress(OSError):
            if identity(path) == mine:
                os.unlink(path)


def identity(path: str) -> tuple[int, int]:
    """The number alone is given to the next file as soon as uvicorn has closed ours."""
    found = os.stat(path)
    return found.st_ino, found.st_ctime_ns


async def warm_up(app: Any, state: dict[str, Any]) -> None:
    """Ask in-process for a model that does not exist: loads what the first real request would block the loop for
    (over a second), and calls nobody."""
    key = os.environ.get("LITELLM_MASTER_KEY", "none")
    headers = [(b"content-type", b"application/json"), (b"x-api-key", key.encode()), (b"host", b"localhost")]
    body = [{"type": "http.request", "body": json.dumps(WARM_UP).encode(), "more_body": False}]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/messages", "raw_path": b"/v1/messages", "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0), "state": dict(state),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return body.pop() if body else await asyncio.Future()

    async def send(message: Any) -> None:
        pass

    logging.disable(logging.CRITICAL)
    for part in (app(scope, receive, send), stream_words()):
        with contextlib.suppress(Exception):  # whatever it says, the modules are loaded now
            await asyncio.wait_for(part, 10)
    logging.disable(logging.NOTSET)


async def stream_words() -> None:
    """LiteLLM as a library, mocked, told to tell no callback: loads its tokenizer and what streams need."""
    from litellm import acompletion

    words = {"model": "hosted_vllm/warm-up", "messages": WARM_UP["messages"], "mock_response": "hi", "api_key": "none"}
    async for _ in await acompletion(**words, stream=True, **{"no-log": True}):
        pass


async def serve(app: Any, inside: socket.socket, public_fd: int, control: Control, logs: LogLines) -> None:
    import uvicorn

    Server = server_class()
    control.loop, private = asyncio.get_running_loop(), Private(app)
    common: dict[str, Any] = {"server_header": False, "proxy_headers": False, "log_config": None}
    inner = Server(uvicorn.Config(private, lifespan="on", timeout_graceful_shutdown=2, **common))
    inner_task = asyncio.create_task(inner.serve(sockets=[inside]))
    while not inner.started:
        if inner_task.done():
            inner_task.result()  # raises SystemExit(3) when the lifespan failed
            sys.exit(3)
        await asyncio.sleep(0.01)
    logs.adopt_loggers()  # the lifespan reads the config, which may have brought handlers back
    await warm_up(app, private.state)
    control.say("ready")
    leaving = asyncio.create_task(control.leaving.wait())
    activated = asyncio.create_task(control.activated.wait())
    await asyncio.wait({leaving, activated, inner_task}, return_when=asyncio.FIRST_COMPLETED)
    if activated.done() and not leaving.done():
        # The family is found from the descriptor; `fd=` of uvicorn takes it for AF_UNIX and loses TCP_NODELAY.
        listener = socket.socket(fileno=os.dup(public_fd))
        outer = Server(uvicorn.Config(Public(private, control), lifespan="off", **common))
        outer.settle = SETTLE
        outer_task = asyncio.create_task(outer.serve(sockets=[listener]))
        while not outer.started and not outer_task.done():
            await asyncio.sleep(0)
        control.say("accepting")
        await asyncio.wait({leaving, outer_task, inner_task}, return_when=asyncio.FIRST_COMPLETED)
        control.say("draining")
        outer.config.timeout_graceful_shutdown = max(0.0, control.drain - SETTLE)
        outer.should_exit = True
        os.close(public_fd)  # a worker that drains for a dead supervisor must not keep the port
        await outer_task
    inner.should_exit = True
    await inner_task


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--number", "--control-fd", "--public-fd", "--log-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--uds", required=True)
    parser.add_argument("--drain", type=float, required=True, help="seconds, unless the order names others")
    parser.add_argument("--app", default="litellm.proxy.proxy_server:app")
    args = parser.parse_args()
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != own]  # our modules must not shadow LiteLLM's
    control, logs = Control(args.control_fd, args.drain), LogLines(args.log_fd, args.number)
    from uvicorn.importer import import_from_string

    app = import_from_string(args.app)
    logs.adopt_loggers()
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    with private_socket(args.uds) as inside:
        loop.run_until_complete(serve(app, inside, args.public_fd, control, logs))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the supervisor may be gone, and its pipes
            stream.flush()
    os._exit(CUT if control.cut else 0)  # an interpreter's orderly exit costs 3 s more


if __name__ == "__main__":
    main()
