"""At the start: take on the workers that a killed supervisor left behind, see off those that cannot be, and get the
public socket."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from anyio import create_task_group, current_time, sleep

from ccproxy_supervisor.adopter import Adopter
from ccproxy_supervisor.core.model import Journal, Note
from ccproxy_supervisor.core.settings import Settings
from ccproxy_supervisor.edge.activation import ActivationError, public_sockets
from ccproxy_supervisor.edge.listener import ListenError, open_listener
from ccproxy_supervisor.edge.state import Leftover, Recorded, leftovers

LOOK = 30.0  # seconds between two looks at who holds it, which costs as much as a thousand tries
LATER = 1.0  # seconds between two tries once it has been taken for so long
RETRY = 0.25  # seconds between two tries for a port that somebody else holds


class Recovery:
    """*settings* is asked at each try: a reload may have named another port. *ours* knows our workers' command lines,
    *collect* writes what workers had to say that are gone, but for the numbers that it is given; *inherit* gives the public
    socket of that address if this process has it already. *why* says what is waited for."""

    def __init__(
        self, settings: Callable[[], Settings], adopter: Adopter, ours: Callable[[list[str]], bool],
        collect: Callable[[set[int]], object], inherit: Callable[[str, int], socket.socket | None], journal: Journal,
    ) -> None:  # fmt: skip
        self.why = ""
        self.activated = False  # the service manager holds the public socket
        self._inherit = inherit
        self._settings, self._adopter, self._journal = settings, adopter, journal
        self._ours, self._collect = ours, collect
        self._leftovers: list[Leftover] = []

    @property
    def remaining(self) -> tuple[Recorded, ...]:
        """The leftovers that still run: another supervisor must hear of them if this one is killed too."""
        return tuple(leftover.record for leftover in self._leftovers if leftover.alive)

    async def find(self, recorded: tuple[Recorded, ...]) -> None:
        """Take on the workers that wait for us, and ask others to drain and leave."""
        declined, adopter = await self._adopter.find(), self._adopter
        others = {record.pid: record for record in (*declined, *recorded) if record.pid not in adopter.pids}
        self._leftovers = leftovers(others.values(), self._ours)
        for leftover in self._leftovers:
            leftover.ask()
            self._journal(Note("leftover.asked", "warning", {"pid": leftover.record.pid}))
        sockets = [re.fullmatch(r"w(\d+)\.sock", Path(record.socket).name) for record in self.remaining]
        self._collect({int(name[1]) for name in sockets if name})

    async def run(self) -> None:
        """Kill the leftovers that outlive their time to drain, and keep what they had to say."""
        proxy = self._settings().proxy
        await self._kill_after(proxy.drain_timeout + proxy.kill_timeout)
        while self.remaining:  # noqa: ASYNC110 - nobody tells of an orphan's end
            await sleep(RETRY)
        for leftover in self._leftovers:
            with suppress(ChildProcessError):  # ours only if they were started before this process was renewed
                os.waitpid(leftover.record.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
        self._collect(set())

    async def public_socket(self) -> socket.socket:
        """Return the socket that this process has, that the service manager holds for us, or that our workers share, or open
        it; a port that is taken is waited for."""
        host, port = self._settings().proxy.host, self._settings().proxy.port
        if had := self._inherit(host, port) or self._handed() or self._adopter.listener(host, port):
            return had
        async with create_task_group() as tasks:
            tasks.start_soon(self._kill_after, self._settings().proxy.kill_timeout)
            opened = await self._open()
            tasks.cancel_scope.cancel()
        return opened

    def _handed(self) -> socket.socket | None:
        try:
            handed = public_sockets()
        except ActivationError as error:
            self._journal(Note("listener.refused", "error", {"reason": str(error), "remedy": "opening our own"}))
            return None
        if not handed:
            return None
        for spare in handed[1:]:  # `localhost` stands for two addresses, the settings for one
            spare.close()
        proxy, (host, port, *_) = self._settings().proxy, handed[0].getsockname()
        same = (host, port) == (proxy.host, proxy.port)
        fields = {"address": f"{host}:{port}", "settings": None if same else f"{proxy.host}:{proxy.port} is not used"}
        self._journal(Note("listener.activated", "info" if same else "warning", fields))
        self.activated = True
        return handed[0]

    async def _open(self) -> socket.socket:
        begun, known, looked = current_time(), "", 0.0
        while True:
            proxy = self._settings().proxy
            try:
                return open_listener(proxy.host, proxy.port)
            except ListenError as error:
                if error.plain != known or current_time() >= looked + LOOK:
                    known, looked = error.plain, current_time()
                    self._refused(str(error))
            await sleep(RETRY if current_time() < begun + LOOK else LATER)

    def _refused(self, why: str) -> None:
        if why != self.why:
            self.why = why
            self._journal(Note("listener.refused", "error", {"reason": why, "remedy": "still trying"}))

    async def _kill_after(self, seconds: float) -> None:
        deadline = current_time() + seconds
        while any(leftover.alive for leftover in self._leftovers) and current_time() < deadline:  # noqa: ASYNC110 - nobody tells of an orphan's end
            await sleep(RETRY)
        for leftover in self._leftovers:
            if leftover.alive:
                leftover.kill()
                self._journal(Note("leftover.killed", "warning", {"pid": leftover.record.pid}))
