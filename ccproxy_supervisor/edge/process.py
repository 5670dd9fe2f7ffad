"""Real workers: spawned through the launcher in a session of their own, signalled as a group, always reaped."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import anyio
import psutil

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import Child, Journal, Note, SpawnError
from ccproxy_supervisor.core.plan import CONFIG, Birth, Plan
from ccproxy_supervisor.core.served import dropped

NEWS = 128 << 10  # bytes that a control socket should hold: news of a thousand models goes at once
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


#: Starts a program: its command, where, with which variables and descriptors.
Start = Callable[..., Running]
#: Has a worker forked, given its plan, its words, its descriptors by flag and its environment; None: start it plainly.
Fork = Callable[[Plan, list[str], Mapping[str, int], Mapping[str, str]], Awaitable[Running | None]]


async def no_fork(plan: Plan, words: list[str], fds: Mapping[str, int], env: Mapping[str, str]) -> Running | None:
    return None


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
            "limits": proxy.max_in_flight.model_dump(),
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


class Spawner:
    """Starts workers on the shared listener. *enrol* hears of every process, *leave* of its end, for the next supervisor."""

    def __init__(
        self, listener: socket.socket, home: Path, launcher: Callable[[], str], config: Callable[[Birth], str],
        capture: Callable[[int], Capture], enrol: Callable[[int, psutil.Process | None, str], None], leave: Callable[[int], None],
        start: Start, fork: Fork = no_fork, journal: Journal = lambda _: None,
    ) -> None:  # fmt: skip
        self._listener, self._home, self._launcher, self._fork = listener, home, launcher, fork
        self._start, self._journal = start, journal
        self._config, self._capture = config, capture
        self._enrol, self._leave = enrol, leave

    def uds(self, number: int) -> str:
        """The private socket of a worker."""
        return str(self._home / "run" / f"w{number}.sock")

    @asynccontextmanager
    async def __call__(self, number: int, plan: Plan) -> AsyncIterator[Child]:
        with ExitStack() as closing:
            ours, theirs, capture = self._connect(number, closing)
            launcher, process = await self._open(number, plan, theirs, capture)
            child = OsChild(number, process, ours, capture, launcher, dict(plan.litellm.expected))
            async with self.keep(child, closing) as kept:
                yield kept

    @asynccontextmanager
    async def keep(self, child: OsChild, closing: ExitStack) -> AsyncIterator[Child]:
        """Listen to *child*, and have it gone at the end. Who is cancelled leaves it, and what *closing* would close."""
        number = child.number
        self._note(number, lambda: self._enrol(number, child.stats, self.uds(number)))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child.listen)
                tasks.start_soon(child.speak_on)
                yield child
                tasks.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            closing.pop_all()
            raise
        except BaseException:
            await self._end(child)
            raise
        await self._end(child)

    async def _end(self, child: OsChild) -> None:
        child.signal(signal.SIGKILL)  # sweeps up grandchildren too when the child is long gone
        with anyio.CancelScope(shield=True):
            await child.wait()
        number = child.number
        self._note(number, lambda: self._leave(number))
        for path in (self.uds(number), self._door(number)):
            with suppress(OSError):  # a folder that is gone or read-only: it is only in the way of people
                Path(path).unlink()

    def _door(self, number: int) -> str:
        return str(self._home / "run" / f"a{number}.sock")

    def _note(self, number: int, keep: Callable[[], object]) -> None:
        """What is only remembered of a worker must not cost it its life."""
        try:
            keep()
        except Exception as error:
            self._journal(Note("worker.unrecorded", "warning", {"worker": number, "reason": told(error)}))

    def _connect(self, number: int, closing: ExitStack) -> tuple[socket.socket, socket.socket, Capture]:
        try:
            capture = self._capture(number)
            closing.callback(capture.close)
            ours, theirs = socket.socketpair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEWS)  # of 8 KiB on macOS
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NEWS)
        except Exception as error:
            raise SpawnError(f"cannot make pipes for worker {number}: {reason(error)}") from error
        closing.enter_context(ours)
        closing.enter_context(theirs)
        ours.setblocking(False)
        return ours, theirs, capture

    async def _open(self, number: int, plan: Plan, control: socket.socket, capture: Capture) -> tuple[str, Running]:
        """The launcher that it is started through, and the process."""
        fds, birth = capture.fds, plan.birth
        passed = {"--control-fd": control.fileno(), "--public-fd": self._listener.fileno(), "--log-fd": fds["litellm"]}
        passed |= {f"--own-{stream}-fd": fd for stream, fd in capture.ours.items()}
        words = ["--number", str(number), "--uds", self.uds(number), "--drain", str(plan.settings.proxy.drain_timeout)]
        words += ["--door", self._door(number), "--spool", str(self._home / "run" / f"w{number}.spool")]
        words += ["--tally", str(self._home / "run")]
        try:
            launcher, env = self._launcher(), {CONFIG: self._config(birth)}
            out, err = fds["stdout"], fds["stderr"]
            if forked := await self._fork(plan, words, {"stdout": out, "stderr": err, **passed}, env):
                return launcher, forked
            command = [birth.python, launcher, *words]
            command += [word for flag, fd in passed.items() for word in (flag, str(fd))]
            return launcher, self._start(
                command, stdout=out, stderr=err, cwd=self._home,
                env={**dict(birth.env), **env}, pass_fds=tuple(passed.values()),
            )  # fmt: skip
        except SpawnError:
            raise
        except Exception as error:
            gone = isinstance(error, FileNotFoundError) and error.filename == birth.python
            remedy = "; run: ccproxy-supervisor upgrade --repair" if gone else ""
            raise SpawnError(f"cannot start {birth.python}: {reason(error)}{remedy}") from error
        finally:
            control.close()
            capture.close_child_ends()


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or told(error)


def visit(child: Child | None) -> socket.socket:
    """Connect to a worker's private door; raises OSError, also when there is no such worker."""
    if not isinstance(child, OsChild):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "no such worker")
    return child.visit()
