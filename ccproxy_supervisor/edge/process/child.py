"""One worker's process: heard and told over its control socket, signalled as a group."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import anyio
import psutil

from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import Child
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.served import dropped

LONGEST_WORD = 4096  # bytes of what a launcher says; LiteLLM lives in the same process
LAST_WORDS = 0.2  # seconds to wait for what a dead worker's pipes still hold; a grandchild may keep them open


class Capture(Protocol):
    """Pipes for one worker's output."""

    @property
    def fds(self) -> dict[str, int]: ...
    @property
    def ours(self) -> dict[str, int]: ...
    def close_child_ends(self) -> None: ...
    async def drained(self, timeout: float) -> bool: ...
    def tail(self) -> tuple[str, ...]: ...
    def close(self) -> None: ...


class Running(Protocol):
    """A process, started by us or by somebody for us."""

    @property
    def pid(self) -> int: ...
    async def wait(self) -> int | None: ...


class OsChild:
    """A `Child` of the operating system, started through *launcher*. *heard* is what it said before anybody listened."""

    def __init__(
        self, number: int, process: Running, control: socket.socket, capture: Capture, launcher: str,
        expected: Mapping[str, int], heard: bytes = b"",
    ) -> None:  # fmt: skip
        self.number, self.pid, self.expected = number, process.pid, expected
        self._served = b""
        self._process, self._control, self._capture, self._launcher = process, control, capture, launcher
        self._ready, self._accepting, self._draining = anyio.Event(), anyio.Event(), anyio.Event()
        self._visitors: deque[socket.socket] = deque()
        self._orders, self._news, self._full = b"", b"", anyio.Event()
        self._known: dict[str, Any] = {}
        self._heard = heard
        self.stats = known(lambda: psutil.Process(process.pid), None)  # None: dead already

    async def wait(self) -> int | None:
        return await self._process.wait()

    async def ready(self) -> Mapping[str, str]:
        await self._ready.wait()
        return dropped(self.expected, self._served)

    async def activate(self, slot: int | None) -> None:
        self._tell("activate" if slot is None else f"activate {slot}")
        await self._accepting.wait()

    async def draining(self) -> None:
        await self._draining.wait()

    def provide(self, plan: Plan, generation: int) -> None:
        birth, proxy = plan.birth, plan.settings.proxy
        care = {
            "digest": birth.digest, "python": birth.python, "version": birth.litellm_version, "launcher": self._launcher,
            "generation": generation, "grace": proxy.orphan_grace, "drain": proxy.drain_timeout,
            "limits": proxy.max_in_flight.model_dump(), "keep_alive": proxy.keep_alive,
        }  # fmt: skip
        self._tell(f"care {json.dumps(care)}")

    def drain(self, seconds: float) -> None:
        self._tell(f"drain {seconds}")

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            os.killpg(self.pid, number)

    async def output(self) -> tuple[str, ...]:
        await self._capture.drained(LAST_WORDS)
        return self._capture.tail()

    def visit(self) -> socket.socket:
        """Connect to its private door by way of the control socket: no path that somebody could remove. Raises OSError.
        The descriptor goes with whatever is being said: a line must not be broken by another."""
        ours, theirs = socket.socketpair()
        try:
            sent = socket.send_fds(self._control, [self._orders or b"visit\n"], [theirs.fileno()])
            self._orders = self._orders[sent:]
        except BaseException:
            ours.close()
            theirs.close()
            raise
        self._visitors.append(theirs)  # until it is received: macOS may clear away what is under way and nobody's
        return ours

    def inform(self, facts: dict[str, Any]) -> None:
        """Let it answer *facts* to who asks for health; said only when more than the uptime has changed."""
        if (lasting := {**facts, "uptime": None}) != self._known:
            self._known = lasting
            self._news = f"health {json.dumps(facts, ensure_ascii=False)}\n".encode()
            self._speak()

    async def listen(self) -> None:
        """Hear what the launcher says, for as long as it lives."""
        try:
            await self._listen()
        finally:
            while self._visitors:
                self._visitors.popleft().close()

    async def _listen(self) -> None:
        heard = {b"ready": self._ready, b"accepting": self._accepting, b"draining": self._draining}
        while True:
            *lines, self._heard = self._heard.split(b"\n")
            for line in lines:
                if event := heard.get(line):
                    event.set()
                elif line == b"met" and self._visitors:
                    self._visitors.popleft().close()
                elif line.startswith(b"serves "):
                    self._served = line.removeprefix(b"serves ")
            await anyio.wait_readable(self._control)
            try:
                data = self._control.recv(4096)
            except OSError:
                return
            if not data:
                return
            self._heard = self._heard[-LONGEST_WORD:] + data

    async def speak_on(self) -> None:
        """Say what the socket did not hold at once, for as long as it lives."""
        while True:
            await self._full.wait()
            await anyio.wait_writable(self._control)
            self._full = anyio.Event()
            self._speak()

    def _tell(self, order: str) -> None:
        self._orders += order.encode() + b"\n"
        self._speak()

    def _speak(self) -> None:
        """Never waits. Of a worker that does not listen, only the latest news is kept."""
        while self._orders or self._news:
            if not self._orders:
                self._orders, self._news = self._news, b""
            try:
                self._orders = self._orders[self._control.send(self._orders) :]
            except BlockingIOError:
                self._full.set()
                return
            except OSError:  # it is gone
                self._orders = self._news = b""


def visit(child: Child | None) -> socket.socket:
    """Connect to a worker's private door; raises OSError, also when there is no such worker."""
    if not isinstance(child, OsChild):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "no such worker")
    return child.visit()
