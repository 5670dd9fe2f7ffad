"""Workers that have outlived their supervisor: found at their doors, and taken on as they are."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import anyio
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import State
from ccproxy_supervisor.launcher.orphan import PROTOCOL, TAKEN, WORDS
from ccproxy_supervisor.launcher.peer import peer
from ccproxy_supervisor.launcher.spool import STREAMS
from ccproxy_supervisor.system.age import age

PATIENCE = 10.0  # seconds for one to say who it is, and again to agree; it serves meanwhile
LONGEST = 64 << 10  # bytes a worker says of itself
DESCRIPTORS = 1 + len(STREAMS)
Number = Annotated[int, Field(ge=0, lt=1 << 40)]
Pid = Annotated[int, Field(gt=1)]  # its group is signalled, and group 1 is everybody


@dataclass(frozen=True)
class Declined:
    """A worker that was not taken on, by its *number*; *pid* is None where nobody said."""

    number: int
    reason: str
    pid: int | None = None


class Refused(Exception):  # noqa: N818 - a fact, not an error
    """A worker that cannot be taken on."""


class Care(BaseModel):
    """What its last supervisor told it to go by."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    generation: Number
    python: str
    version: str | None = None
    launcher: str = ""
    grace: float = 0.0
    drain: float = 0.0


class Hello(BaseModel):
    """What a worker says of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    protocol: int
    number: Number
    pid: Pid
    slot: Number | None
    said: tuple[str, ...]
    draining: bool
    care: Care


HELLO = TypeAdapter(Hello)


@dataclass
class Found:
    """A worker that has said who it is: *listener* is the public socket it shares, *pipes* are its outputs by stream."""

    hello: Hello
    control: socket.socket
    listener: socket.socket
    pipes: dict[str, int]
    words: bytes = field(default=b"", repr=False)  # heard after it agreed

    @property
    def state(self) -> State:
        if self.hello.draining:
            return State.DRAINING
        return State.SERVING if "accepting" in self.hello.said else State.STARTING

    @property
    def age(self) -> float:
        """Seconds since its process was started; 0 if it has just ended."""
        return known(lambda: age(self.hello.pid), 0.0)

    def listens_on(self, host: str, port: int) -> bool:
        """Whether the public socket it shares is of that address."""
        with suppress(OSError):
            address: tuple[Any, ...] = self.listener.getsockname()
            return address[:2] == (host, port)
        return False

    async def agree(self) -> None:
        """Take it on; raises `Refused` if it does not answer any more."""
        heard = b""
        try:
            with anyio.fail_after(PATIENCE):
                self.control.send(TAKEN)
                while b"adopted\n" not in heard:
                    await anyio.wait_readable(self.control)
                    if not (more := self.control.recv(4096)):
                        raise Refused("it went away")
                    heard += more
        except (OSError, TimeoutError) as error:
            raise Refused(str(error) or "it did not agree in time") from error
        self.words = heard.partition(b"adopted\n")[2]

    def close(self) -> None:
        """Let go of it: it goes on waiting for a supervisor."""
        self.control.close()
        self.listener.close()
        while self.pipes:
            os.close(self.pipes.popitem()[1])


def numbers(run: Path) -> set[int]:
    """The numbers of workers of which anything is left in the folder *run*: no other worker may have them."""
    names = [path.stem[1:] for pattern in ("w*.sock", "a*.sock", "w*.spool") for path in run.glob(pattern)]
    return {int(name) for name in names if name.isdecimal() and len(name) < 7}


def doors(run: Path) -> dict[int, Path]:
    """Where workers may wait in the folder *run*, by their numbers."""
    return {int(door.stem[1:]): door for door in sorted(run.glob("a*.sock")) if door.stem[1:].isdecimal()}


async def meet(number: int, door: Path) -> Found | Declined | None:
    """Ask the worker that waits at *door* who it is; None if it is dead and has left its door."""
    try:
        return await _met(door, number)
    except ConnectionRefusedError:
        with suppress(OSError):
            door.unlink()
        return None


async def _met(door: Path, number: int) -> Found | Declined:
    pid = None
    with ExitStack() as closing:
        sock = closing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            sock.setblocking(False)
            for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, buffer, WORDS)
            sock.connect(str(door))  # at once: it is full, refused or made
            uid, pid = peer(sock)
            if uid != os.geteuid():
                return Declined(number, f"it belongs to user {uid}")
            with anyio.fail_after(PATIENCE):
                found = await _heard(sock, number, pid, closing)
        except ConnectionRefusedError:
            raise
        except Exception as error:  # of one of them: the others are taken on, and we start
            return Declined(number, str(error).partition("\n")[0] or "it did not answer in time", pid)
        closing.pop_all()
    return found


async def _heard(sock: socket.socket, number: int, pid: int, closing: ExitStack) -> Found:
    said, fds = await _hear(sock, closing)
    hello = HELLO.validate_json(said)
    if hello.protocol != PROTOCOL:
        raise Refused(f"it speaks protocol {hello.protocol}, we {PROTOCOL}")
    if (hello.pid, hello.number) != (pid, number):
        raise Refused(f"it says it is process {hello.pid}, worker {hello.number}")
    if len(fds) != DESCRIPTORS:
        raise Refused(f"it handed over {len(fds)} descriptors, not {DESCRIPTORS}")
    listener = socket.socket(fileno=fds[0])
    listener.setblocking(False)
    return Found(hello, sock, listener, dict(zip(STREAMS, fds[1:], strict=True)))


async def _hear(sock: socket.socket, closing: ExitStack) -> tuple[bytes, list[int]]:
    """One line, and the descriptors that came with it."""
    said, fds = b"", list[int]()
    while not said.endswith(b"\n"):
        await anyio.wait_readable(sock)
        more, given, _flags, _address = socket.recv_fds(sock, LONGEST, DESCRIPTORS)
        for fd in given:
            closing.callback(os.close, fd)
            os.set_inheritable(fd, False)
        fds += given
        said += more
        if not more or len(said) > LONGEST:
            raise Refused("it did not say who it is")
    return said, fds
