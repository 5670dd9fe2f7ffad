"""Preloaders: one process an environment has imported LiteLLM and forks workers from there."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio
import psutil

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.model import Journal, Note
from ccproxy_supervisor.core.plan import CONFIG, Plan

CALM = 10.0  # seconds after our start before one is started that nobody waits for
PROBE = 30.0  # seconds between two looks at a preloader
PATIENCE = 10.0  # seconds it may take for an answer: a fork is made in a hundredth of one
SPARE = 60.0  # seconds that one is kept whose environment is not (or not yet) the plan's
GROWN = 1.5  # times what it weighed when it could fork for the first time
FORKS_LIVE = "run/forks-live"  # made by the self-test, on a Mac where forked workers were seen to live
WORD = 0.5  # seconds to wait for the exit status of a worker that is known to have ended


class Capture(Protocol):
    @property
    def fds(self) -> dict[str, int]: ...
    def close_child_ends(self) -> None: ...
    def close(self) -> None: ...


class Running(Protocol):
    @property
    def pid(self) -> int: ...
    async def wait(self) -> int | None: ...


Ended = Callable[[int], Awaitable[None]]  # returns when the process of that number has ended


def wanted(plan: Plan, recorded: Path) -> bool:
    """Whether *plan* has workers forked; on a Mac `auto` waits until its own self-test has *recorded* that they live there."""
    choice = plan.settings.proxy.preload
    return choice == "on" or (choice == "auto" and (sys.platform != "darwin" or recorded.exists()))


@dataclass(eq=False)
class Forked:
    """A worker that a preloader forked: not our child, its exit status comes by word of mouth."""

    pid: int
    ended: Ended
    told: anyio.Event = field(default_factory=anyio.Event)
    status: int | None = None

    async def wait(self) -> int | None:
        """Return its exit status once it has ended; None if nobody could say."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end, tasks.cancel_scope)
            await self.told.wait()
            tasks.cancel_scope.cancel()
        return self.status

    async def _end(self, scope: anyio.CancelScope) -> None:
        await self.ended(self.pid)
        await anyio.sleep(WORD)
        scope.cancel()


class Preloader:
    """One such process. It is *done* when it cannot or shall not fork any more; its workers live on."""

    def __init__(self, process: Running, control: socket.socket, capture: Capture, ended: Ended) -> None:
        self.process, self._control, self._capture, self._ended = process, control, capture, ended
        self.imported, self.done = anyio.Event(), anyio.Event()
        self.why = ""
        self.used = anyio.current_time()
        self.weight = 0
        self._answer: dict[str, Any] = {}
        self._answered = anyio.Event()
        self._turn = anyio.Lock()
        self._children: dict[int, Forked] = {}
        self._retired = False

    def give_up(self, why: str) -> None:
        self.why = self.why or why
        self.done.set()
        self.imported.set()

    async def fork(self, words: list[str], fds: Mapping[str, int], env: Mapping[str, str]) -> Forked | None:
        """Have a worker forked; None when it is not to be had this way."""
        self.used = anyio.current_time()
        order = {"start": words, "fds": list(fds), "env": dict(env)}
        answer = await self._ask(order, list(fds.values()))
        if answer is None or "started" not in answer:
            self.give_up(str(answer["refused"]) if answer else f"it did not fork within {PATIENCE:g} s")
            return None
        return self._children[answer["started"]]

    async def ping(self) -> None:
        """Give it up when it does not answer, or has grown: what it weighs is shared out to every worker."""
        if await self._ask({"ping": 1}, []) is None:
            self.give_up(f"it did not answer within {PATIENCE:g} s")
        with suppress(Exception):  # psutil may say anything of a process that ends; a dead one is noticed elsewhere
            weight = psutil.Process(self.process.pid).memory_info().rss
            self.weight = self.weight or weight
            if weight > GROWN * self.weight:
                self.give_up(f"it grew from {self.weight >> 20} to {weight >> 20} MiB")

    async def _ask(self, order: dict[str, Any], fds: list[int]) -> dict[str, Any] | None:
        async with self._turn:
            if self.done.is_set():
                return None
            self._answered, self._answer = anyio.Event(), {}
            try:
                socket.send_fds(self._control, [json.dumps(order).encode() + b"\n"], fds)
            except OSError:
                return None
            with anyio.move_on_after(PATIENCE):
                await self._answered.wait()
            return self._answer or None

    async def listen(self) -> None:
        """Hear what it says until it is gone."""
        buffer = b""
        while True:
            await anyio.wait_readable(self._control)
            try:
                data = self._control.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                return self.give_up("it ended")
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, word: dict[str, Any]) -> None:
        if "imported" in word:
            self.imported.set() if word["alone"] else self.give_up("LiteLLM started a thread at its import")
        elif "ended" in word:
            if child := self._children.pop(word["ended"], None):
                child.status = word["status"]
                child.told.set()
            if self._retired and not self._children:
                self.done.set()
        else:
            if "started" in word:  # here, for its end may be the next line
                self._children[word["started"]] = Forked(word["started"], self._ended)
            self._answer = word
            self._answered.set()

    def retire(self) -> None:
        """Let it leave once it has told how the last of its workers ended."""
        self._retired = True
        if not self._children:
            self.done.set()

    def close(self) -> None:
        """Its control socket's end tells it to leave; it has nothing to finish."""
        self._control.close()
        self._capture.close()


class Preloaders:
    """At most one preloader an environment, which is an interpreter and the variables that a worker is born with but the
    config's place: a changed config needs no new one. *launcher* is the path of the launcher."""

    def __init__(
        self, plan: Plan, home: Path, launcher: Callable[[], str], capture: Callable[[str], Capture], ended: Ended,
        start: Callable[..., Running], journal: Journal,
    ) -> None:  # fmt: skip
        self._plan, self._home, self._launcher = plan, home, launcher
        self._capture, self._ended, self._start, self._journal = capture, ended, start, journal
        self._loaders: dict[object, Preloader] = {}
        self._failed: set[object] = set()  # environments whose last preloader never came to fork
        self._running = anyio.Event()
        self._turn = anyio.Lock()

    def adopt(self, plan: Plan) -> None:
        """The environment that was left needs its preloader no more; the others age."""
        left, self._plan = self._key(self._plan), plan
        if left != self._key(plan) and (loader := self._loaders.get(left)):
            loader.retire()
        self._failed.clear()

    async def prepare(self, plan: Plan) -> None:
        """Return when a worker of *plan* can be forked, or will have to be started plainly. Raises nothing."""
        key = self._key(plan)
        if not self._wanted(plan) or key in self._failed:
            return
        await self._running.wait()
        async with self._turn:
            if key not in self._loaders:
                loader = self._open(plan)
                if loader is None:
                    return
                self._loaders[key] = loader
                self._tasks.start_soon(self._tend, key, loader)
        await self._loaders[key].imported.wait()

    async def fork(self, plan: Plan, words: list[str], fds: Mapping[str, int], env: Mapping[str, str]) -> Forked | None:
        """Return a forked worker of *plan*; None when there is nobody to fork it."""
        loader = self._loaders.get(self._key(plan))
        if loader is None or not self._wanted(plan) or not loader.imported.is_set():
            return None
        return await loader.fork(words, fds, env)

    async def run(self) -> None:
        """Watch over every preloader, for ever."""
        try:
            async with anyio.create_task_group() as self._tasks:
                self._running.set()
                await anyio.sleep_forever()
        finally:
            self._running = anyio.Event()

    async def keep(self) -> None:
        """See to it, for ever, that the next worker need not wait for an import: also after all were adopted, and when the last
        preloader died or had grown. Not at once: who has just been started anew, again and again perhaps, has better to do."""
        await anyio.sleep(CALM)
        while True:
            await self.prepare(self._plan)
            await anyio.sleep(PROBE)

    async def _tend(self, key: object, loader: Preloader) -> None:
        began = anyio.current_time()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loader.listen)
                tasks.start_soon(self._look_after, key, loader)
                await loader.imported.wait()
                if not loader.done.is_set():
                    seconds = round(anyio.current_time() - began, 3)
                    self._journal(Note("preloader.ready", "info", {"pid": loader.process.pid, "seconds": seconds}))
                await loader.done.wait()
                tasks.cancel_scope.cancel()
        except Exception as error:  # a fault of ours: whoever waits for it is started plainly
            loader.give_up(told(error))
        finally:
            loader.give_up("")
            self._loaders.pop(key, None)
            loader.close()
            with anyio.CancelScope(shield=True):
                await self._reap(loader)
        if not loader.weight:
            self._failed.add(key)
        self._journal(Note("preloader.ended", "info" if loader.why == "" else "warning", {"reason": loader.why}))

    async def _look_after(self, key: object, loader: Preloader) -> None:
        await loader.imported.wait()
        while not loader.done.is_set():
            await loader.ping()
            await anyio.sleep(PROBE)
            if key != self._key(self._plan) and anyio.current_time() - loader.used > SPARE:
                loader.done.set()  # an environment that the plan left, or never came to

    async def _reap(self, loader: Preloader) -> None:
        """It leaves by itself when its control socket ends; one that does not is killed."""
        with anyio.move_on_after(1):
            await loader.process.wait()
        with suppress(ProcessLookupError):
            os.kill(loader.process.pid, signal.SIGKILL)
        await loader.process.wait()

    def _key(self, plan: Plan) -> object:
        birth = plan.birth
        return birth.python, birth.litellm_version, tuple(pair for pair in birth.env if pair[0] != CONFIG)

    def _wanted(self, plan: Plan) -> bool:
        return wanted(plan, self._home / FORKS_LIVE)

    def _open(self, plan: Plan) -> Preloader | None:
        """Start one; None when it cannot be started: then a worker cannot either, and says why."""
        with ExitStack() as failed:
            try:
                capture = self._capture("preloader")
                failed.callback(capture.close)
                ours, theirs = socket.socketpair()
                failed.enter_context(ours)
                with theirs:
                    ours.setblocking(False)
                    fds, birth = capture.fds, plan.birth
                    process = self._start(
                        [birth.python, self._launcher(), "--preload-fd", str(theirs.fileno())],
                        stdout=fds["stdout"], stderr=fds["stderr"], cwd=self._home, env=dict(birth.env),
                        pass_fds=(theirs.fileno(),),
                    )  # fmt: skip
            except Exception:
                return None
            capture.close_child_ends()
            failed.pop_all()
        return Preloader(process, ours, capture, self._ended)
