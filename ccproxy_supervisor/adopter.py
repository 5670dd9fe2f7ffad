"""Takes on the workers that outlived the last supervisor, with their pipes and the public socket that they share."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
from anyio import create_task_group

from ccproxy_supervisor.core.model import Child, Journal, Note, State, Survivor
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.edge import adoption, exits
from ccproxy_supervisor.edge.adoption import Declined, Found, Refused
from ccproxy_supervisor.edge.process import Capture, OsChild, Spawner
from ccproxy_supervisor.edge.state import Recorded


class Stranger:
    """A process that is not our child, or was ours before this process was renewed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    async def wait(self) -> int | None:
        await exits.ended(self.pid)
        with suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
            return os.waitstatus_to_exitcode(status) if pid else None
        return None


class Adopter:
    """*capture* goes on with the pipes of a worker in the folder *run*."""

    def __init__(self, run: Path, capture: Callable[[int, Mapping[str, int]], Capture], journal: Journal) -> None:
        self._run, self._capture, self._journal = run, capture, journal
        self._adopted: list[tuple[Found, OsChild, ExitStack]] = []
        self.newest = 0  # of all workers of which anything is left

    @property
    def pids(self) -> list[int]:
        return [child.pid for _, child, _ in self._adopted]

    async def find(self) -> list[Recorded]:
        """Take on all that wait for us, each as soon as it has answered; return who must be asked to leave."""
        self.newest = max(adoption.numbers(self._run), default=0)
        declined = list[Recorded]()

        async def ask(number: int, door: Path) -> None:
            met = await adoption.meet(number, door)
            if refusal := await self._adopt(met) if isinstance(met, Found) else met:
                fields = {"pid": refusal.pid, "worker": refusal.number, "reason": refusal.reason}
                self._journal(Note("worker.declined", "warning", fields))
                declined.extend(self._recorded(refusal))

        async with create_task_group() as tasks:
            for number, door in adoption.doors(self._run).items():
                tasks.start_soon(ask, number, door)
        self._adopted.sort(key=lambda adopted: adopted[0].hello.number)
        return declined

    def listener(self, host: str, port: int) -> socket.socket | None:
        """The public socket of that address, if they share one."""
        shared = [found.listener for found, _, _ in self._adopted if found.listens_on(host, port)]
        return shared[0].dup() if shared else None

    def survivors(self, plan: Plan, public: socket.socket, launcher: str, spawner: Spawner) -> Iterator[Survivor]:
        """Those that were taken on; one that *launcher* would not start so, or that does not serve *public*, seems to be
        of another birth than *plan*, and will be replaced."""
        for found, child, closing in self._adopted:
            hello, care = found.hello, found.hello.care
            same = care.launcher == launcher and found.listens_on(*public.getsockname()[:2])
            digest = care.digest if same else f"{care.digest}, started otherwise"
            child.expected = dict(plan.litellm.expected) if digest == plan.birth.digest else {}
            found.listener.close()

            born = plan if digest == plan.birth.digest else replace(plan, birth=replace(
                plan.birth, digest=digest, python=care.python, litellm_version=care.version
            ))  # fmt: skip
            yield Survivor(hello.number, hello.pid, care.generation, hello.slot, found.state, found.age, born,
                           partial(_taken, spawner, child, closing))  # fmt: skip

    def let_go(self) -> None:
        """Have them leave: no supervisor will follow."""
        for found, child, _ in self._adopted:
            child.drain(found.hello.care.drain)

    async def _adopt(self, found: Found) -> Declined | None:
        number, pid, care = found.hello.number, found.hello.pid, found.hello.care
        try:
            if found.state is State.DRAINING:
                raise Refused("it is leaving")
            await found.agree()
            capture = self._capture(number, found.pipes)
        except Exception as error:  # of one of them: the others are taken on, and we start
            found.close()
            return Declined(number, str(error), pid)
        closing = ExitStack()
        closing.enter_context(found.control)
        closing.callback(capture.close)
        child = OsChild(number, Stranger(pid), found.control, capture, care.launcher, {}, found.words)
        self._adopted.append((found, child, closing))
        fields = {"worker": number, "slot": found.hello.slot, "generation": care.generation, "pid": pid}
        self._journal(Note("worker.adopted", "info", fields))
        return None

    def _recorded(self, declined: Declined) -> list[Recorded]:
        with suppress(psutil.Error, OSError, SystemError):
            if declined.pid is not None:
                started = psutil.Process(declined.pid).create_time()
                return [Recorded(declined.pid, started, str(self._run / f"w{declined.number}.sock"))]
        return []


@asynccontextmanager
async def _taken(spawner: Spawner, child: OsChild, closing: ExitStack) -> AsyncIterator[Child]:
    with closing:
        async with spawner.keep(child, closing) as kept:
            yield kept
