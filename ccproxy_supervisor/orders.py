"""Orders, from signals and from the control socket."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import anyio

from ccproxy_supervisor.core.changes import changes
from ccproxy_supervisor.core.faults import ConfigError, told
from ccproxy_supervisor.core.model import Cause, Journal, Note, Reloaded
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.edge.renewal import RenewalError, Signals
from ccproxy_supervisor.lasting import failed
from ccproxy_supervisor.prober import Prober
from ccproxy_supervisor.supervisor import Supervisor

CONTROL = "control socket"
ANSWERED = 0.2  # seconds in which an answer on it is taken


class Place(Protocol):
    """The daemon, as orders need it. *supervisor* is None while the public socket is waited for (*why*)."""

    plan: Plan
    supervisor: Supervisor | None

    @property
    def why(self) -> str: ...
    @property
    def generation(self) -> int: ...
    def read(self, python: str | None = None) -> Plan:
        """Read what is on disk; *python* stands in for the interpreter that the settings name."""

    def adopt(self, plan: Plan) -> None: ...
    def give_up(self) -> None:
        """Stop waiting for the public socket."""

    async def prove_successor(self) -> str:
        """Return the version of the supervisor that would follow; raises `RenewalError`."""

    def renew(self, by: str, follower: str) -> None:
        """Have that version follow as soon as the roll under way is done."""


class Orders:
    def __init__(
        self, place: Place, prober: Prober, signals: Signals, rotate: Callable[[], object], journal: Journal
    ) -> None:
        self._place, self._prober, self._rotate, self._journal = place, prober, rotate, journal
        self._signals = signals

    async def take(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out *name*; raises `ValueError` for one that cannot be understood."""
        match name:
            case "reload":
                return self._told(await self.reload(CONTROL))
            case "restart":
                cause = body.get("cause", Cause.RESTART)
                if cause not in (Cause.RESTART, Cause.UPGRADE):
                    raise ValueError("cause is restart or upgrade")
                return self._told(await self.reload(CONTROL, Cause(cause)))
            case "renew":
                return await self.renew(CONTROL)
            case "stop":
                self.stop(CONTROL)
                return {"result": "stopping"}
            case "rotate":
                self._rotate()
                return {"result": "rotated"}
            case "canary":
                python, model = body.get("python"), body.get("model")
                if not isinstance(python, str) or not isinstance(model, str) or not os.path.isabs(python):
                    raise ValueError("python, an absolute path, and model are needed")
                return await self.canary(python, model)
        raise ValueError("no such order")

    async def reload(self, by: str, cause: Cause = Cause.RELOAD) -> Reloaded:
        place = self._place
        if place.supervisor:
            return await place.supervisor.reload(by, cause)
        report = self._reload_early(by)
        self._journal(report)
        return report

    def _reload_early(self, by: str) -> Reloaded:
        """Take up the settings while the public socket is waited for: perhaps they name another port now."""
        place = self._place
        try:
            plan = place.read()
        except ConfigError as error:
            return Reloaded("refused", f"{error}\nkeeping the settings read before", by)
        except Exception as error:  # a bug of the reader must not cost the daemon
            return Reloaded("refused", f"cannot read the configuration: {told(error)}", by)
        changed = changes(place.plan.settings, plan.settings)
        if fixed := [each.path for each in changed if each.kind == "fixed" and each.path.startswith("admin.")]:
            why = f"{', '.join(fixed)} can only change when the supervisor begins anew"
            return Reloaded("refused", f"{why}; keeping the settings read before", by)
        named = tuple(str(each) for each in changed) + place.plan.birth.differs(plan.birth)
        detail = f"read; still waiting for the public socket: {place.why}"
        try:
            place.adopt(plan)
        except Exception as error:  # a bug of an edge
            detail += f"; cannot adopt all of it: {told(error)}"
        return Reloaded("applied", detail, by, named)

    async def canary(self, python: str, model: str) -> dict[str, Any]:
        """Prove LiteLLM under another interpreter, with the configuration a roll would take up, never letting it serve."""
        begun = anyio.current_time()
        try:
            wrong = await self._prove(python, model)
        except ConfigError as error:
            wrong = str(error)
        seconds = round(anyio.current_time() - begun, 3)
        return {"ok": wrong is None, "detail": wrong or "ready, and answered a completion", "seconds": seconds}

    async def _prove(self, python: str, model: str) -> str | None:
        place = self._place
        if place.supervisor is None:
            return f"waiting for the public socket: {place.why}"
        return await place.supervisor.canary(place.read(python), partial(self._prober.complete, model))

    async def renew(self, by: str) -> dict[str, Any]:
        """Begin anew if the program on disk proves that it can follow us."""
        try:
            if self._place.supervisor is None:
                raise RenewalError(f"waiting for the public socket: {self._place.why}")
            version = await self._place.prove_successor()
        except RenewalError as error:
            self._journal(Note("renewal.refused", "error", {"by": by, "reason": str(error)}))
            return {"result": "refused", "detail": f"{error}; going on as before"}
        self._tasks.start_soon(self._leave, by, version)
        return {"result": "renewing", "detail": f"version {version} follows"}

    async def _leave(self, by: str, follower: str) -> None:
        await anyio.sleep(ANSWERED)
        self._place.renew(by, follower)

    def stop(self, by: str) -> None:
        if self._place.supervisor:
            self._place.supervisor.stop(by)
        else:
            self._place.give_up()

    async def run(self) -> None:
        """Heed signals for ever, each at once: a reload may take minutes. A stop is heeded before anything else can happen."""
        async with anyio.create_task_group() as self._tasks:
            async for number in self._signals.heard():
                if number in (signal.SIGTERM, signal.SIGINT):
                    self.stop(number.name)
                else:
                    self._tasks.start_soon(self._heed, number)

    async def _heed(self, number: signal.Signals) -> None:
        """One that fails must not leave the next signals unheard: unheard, they end the process."""
        try:
            match number:
                case signal.SIGHUP:
                    await self.reload("SIGHUP")
                case signal.SIGUSR1:
                    self._rotate()
                case signal.SIGUSR2:
                    await self.renew("SIGUSR2")
        except Exception as error:
            self._journal(failed("orders", error))

    def _told(self, report: Reloaded) -> dict[str, Any]:
        told = {"result": report.result, "detail": report.detail, "changes": list(report.changes)}
        return told | {"generation": self._place.generation}
