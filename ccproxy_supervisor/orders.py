"""Orders, from signals and from the control socket."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import anyio

from ccproxy_supervisor.asking import Asking
from ccproxy_supervisor.core.changes import changes
from ccproxy_supervisor.core.faults import ConfigError, told
from ccproxy_supervisor.core.model import Cause, Journal, Reloaded
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.lasting import failed
from ccproxy_supervisor.supervisor import Supervisor

CONTROL = "control socket"


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


class Orders:
    def __init__(self, place: Place, asking: Asking, rotate: Callable[[], object], journal: Journal) -> None:
        self._place, self._asking, self._rotate, self._journal = place, asking, rotate, journal

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
            why = f"{', '.join(fixed)} can only change when the supervisor itself restarts"
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
        return await place.supervisor.canary(place.read(python), partial(self._asking.complete, model))

    def stop(self, by: str) -> None:
        if self._place.supervisor:
            self._place.supervisor.stop(by)
        else:
            self._place.give_up()

    async def run(self) -> None:
        """Heed signals for ever, each at once: a reload may take minutes."""
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
        with anyio.open_signal_receiver(*signals) as heard:
            async with anyio.create_task_group() as tasks:
                async for number in heard:
                    tasks.start_soon(self._heed, number)

    async def _heed(self, number: signal.Signals) -> None:
        """One that fails must not leave the next signals unheard: unheard, they end the process."""
        try:
            match number:
                case signal.SIGHUP:
                    await self.reload("SIGHUP")
                case signal.SIGUSR1:
                    self._rotate()
                case _:
                    self.stop(number.name)
        except Exception as error:
            self._journal(failed("orders", error))

    def _told(self, report: Reloaded) -> dict[str, Any]:
        told = {"result": report.result, "detail": report.detail, "changes": list(report.changes)}
        return told | {"generation": self._place.generation}
