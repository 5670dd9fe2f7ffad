"""One worker's life, from the import of the application to its last answer."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .control import Control
from .doors import Private, Public
from .guests import KEPT, guest_class
from .logs import LogLines
from .meter import Meter
from .orphan import AdoptionSocket, OrphanReader
from .pulse import kept_alive
from .served import Dropped, served
from .servers import private_socket, server_class
from .spool import STREAMS
from .tally import Tally
from .traffic import Traffic
from .warm import warm_up

SETTLE = 0.5  # seconds between closing the listener and draining, see Server.shutdown
CUT = 75  # exit status


async def serve(
    app: Any,
    inside: Sequence[socket.socket],
    public_fd: int,
    control: Control,
    logs: LogLines,
    warmed: Callable[[], None],
    meter: Meter,
) -> None:
    import uvicorn

    dropped = Dropped()
    Server = server_class()
    control.loop, private, traffic = asyncio.get_running_loop(), Private(app), Traffic()
    common: dict[str, Any] = {"server_header": False, "proxy_headers": False, "log_config": None}
    inner = Server(uvicorn.Config(traffic.probed(private), lifespan="on", timeout_graceful_shutdown=2, **common))
    inner_task = asyncio.create_task(inner.serve(sockets=list(inside)))
    while not inner.started:
        if inner_task.done():
            inner_task.result()  # raises SystemExit(3) when the lifespan failed
            sys.exit(3)
        await asyncio.sleep(0.01)
    control.receive = inner.receive
    logs.adopt_loggers()  # the lifespan reads the config, which may have brought handlers back
    await warm_up(app, private.state)
    warmed()
    meter.learn()
    if said := served(dropped):
        control.say(f"serves {said}")
    control.say("ready")
    leaving = asyncio.create_task(control.leaving.wait())
    activated = asyncio.create_task(control.activated.wait())
    await asyncio.wait({leaving, activated, inner_task}, return_when=asyncio.FIRST_COMPLETED)
    if activated.done() and not leaving.done():
        # The family is found from the descriptor; `fd=` of uvicorn takes it for AF_UNIX and loses TCP_NODELAY.
        listener = socket.socket(fileno=os.dup(public_fd))
        public = Public(private, control)
        door = kept_alive(meter.metered(traffic.counted(public)), lambda: control.keep_alive)
        config = uvicorn.Config(door, lifespan="off", timeout_keep_alive=KEPT, **common)
        config.load()
        config.http_protocol_class = guest_class(traffic.accepting(config.http_protocol_class))
        outer = Server(config)
        outer.settle = SETTLE
        outer_task = asyncio.create_task(outer.serve(sockets=[listener]))
        while not outer.started and not outer_task.done():
            await asyncio.sleep(0)
        control.say("accepting")
        await asyncio.wait({leaving, outer_task, inner_task}, return_when=asyncio.FIRST_COMPLETED)
        control.say("draining")
        public.leaving = True
        outer.config.timeout_graceful_shutdown = control.drain
        outer.should_exit = True
        control.public_fd = -1
        os.close(public_fd)  # a worker that drains for a dead supervisor must not keep the port
        await outer_task
        await meter.settle()
    inner.should_exit = True
    await inner_task


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--number", "--control-fd", "--public-fd", "--log-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--uds", required=True)
    parser.add_argument("--drain", type=float, required=True, help="seconds, unless the order names others")
    parser.add_argument("--door", help="where the next supervisor finds us; without it, we leave with this one")
    parser.add_argument("--tally", help="the folder for what we count, which the supervisor reads")
    parser.add_argument("--spool", default="", help="where our output is kept while there is no supervisor")
    for stream in STREAMS:
        parser.add_argument(f"--own-{stream}-fd", type=int, help="the other end of our own pipe")
    parser.add_argument("--app", default="litellm.proxy.proxy_server:app")
    return parser.parse_args(words)


class Nothing:
    """A folder that nothing is imported from."""

    def find_spec(self, name: str, target: object = None) -> None:
        return None


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """LiteLLM puts the folder two above the working directory in front of its import path when it is imported, and some of
    its guardrails do so later. Above a home that may be a folder in which others can write."""
    home, above = os.getcwd(), os.path.abspath("../..")
    if above not in sys.path:
        sys.path_importer_cache[above] = Nothing()
    os.chdir("/")
    try:
        yield
    finally:
        os.chdir(home)


def load(name: str) -> Any:
    """Import the application."""
    from uvicorn.importer import import_from_string

    with aside():
        return import_from_string(name)


def work(args: argparse.Namespace, load: Callable[[], Any], warmed: Callable[[], None] = lambda: None) -> None:
    """Be one worker. Never returns: an interpreter's orderly exit costs 3 s more."""
    ends = {stream: getattr(args, f"own_{stream}_fd") for stream in STREAMS}
    reader = OrphanReader({stream: fd for stream, fd in ends.items() if fd is not None}, args.spool, args.number)
    door = AdoptionSocket(args.door) if args.door else None
    control = Control(args.number, args.control_fd, args.public_fd, args.drain, door, reader)
    logs, meter = LogLines(args.log_fd, args.number), Meter(Tally(args.tally, args.number))
    sys.path.append(os.path.dirname(os.environ.get("CONFIG_FILE_PATH", "")) or os.getcwd())  # a handler's neighbours
    app = load()
    logs.adopt_loggers()
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    with private_socket(args.uds) as inside:
        loop.run_until_complete(serve(app, inside, args.public_fd, control, logs, warmed, meter))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    control.finish()
    os._exit(CUT if control.cut else 0)


def main() -> None:
    args = arguments()
    work(args, lambda: load(args.app))
