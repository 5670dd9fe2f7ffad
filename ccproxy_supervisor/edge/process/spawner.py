"""Real workers: spawned through the launcher in a session of their own, signalled as a group, always reaped."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import psutil

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.model import Child, Journal, Note, SpawnError
from ccproxy_supervisor.core.plan import CONFIG, Birth, Plan
from ccproxy_supervisor.edge.process.child import Capture, OsChild, Running

NEWS = 128 << 10  # bytes that a control socket should hold: news of a thousand models goes at once
#: Starts a program: its command, where, with which variables and descriptors.
Start = Callable[..., Running]
#: Has a worker forked, given its plan, its words, its descriptors by flag and its environment; None: start it plainly.
Fork = Callable[[Plan, list[str], Mapping[str, int], Mapping[str, str]], Awaitable[Running | None]]


async def no_fork(plan: Plan, words: list[str], fds: Mapping[str, int], env: Mapping[str, str]) -> Running | None:
    return None


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
