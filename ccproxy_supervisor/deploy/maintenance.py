"""Where a change of LiteLLM is carried out: one at a time, with or without a running daemon, and written down."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.incident import change
from ccproxy_supervisor.core.model import SUPERSEDED
from ccproxy_supervisor.deploy import canary, locks, pip
from ccproxy_supervisor.deploy.advisories import advisories
from ccproxy_supervisor.deploy.environments import Environments
from ccproxy_supervisor.deploy.errors import InstallError, RefusedError
from ccproxy_supervisor.deploy.litellm import Condensed, Fill, Say, examine, install
from ccproxy_supervisor.deploy.upgrade import Target, Upgrader, UpgradeTools
from ccproxy_supervisor.edge import incidents, upgrades
from ccproxy_supervisor.edge.home import Home

ROLL = 3600.0  # seconds; over many slots with long streams it takes its time, and is seen to take it
#: Orders to the daemon (method, path, body, seconds); None when none runs. Raises `InstallError` for its refusals.
Daemon = Callable[[str, str, dict[str, Any], float], dict[str, Any] | None]
Action = Literal["install", "upgrade", "rollback", "repair"]
Result = Literal["done", "refused", "failed"]


class Maintenance:
    """*show* gets (done, of how many, what) while packages come in; *confirm* asks a person a question."""

    def __init__(
        self,
        home: Home,
        daemon: Daemon,
        say: Say,
        show: Callable[[int, int, str], None],
        confirm: Callable[[str], bool],
    ) -> None:
        self._home, self._daemon, self._say, self._show, self._confirm = home, daemon, say, show, confirm
        self._environments = Environments(home.folder)

    def first(self, python: str, denied: Iterable[str] = (), wanted: Sequence[str] = ()) -> None:
        """Give a home that has none its LiteLLM, the pinned version, unless it is denied.

        *python* and *wanted* are `proxy.python` and `proxy.packages` of the settings, *denied* `upgrade.denied`.
        """
        environments, current = self._environments, self._environments.current
        if not self._ours(python) or (environments.link.is_dir() and not environments.link.is_symlink()):
            return self._say(f"LiteLLM is not installed: {python} is yours to look after")
        if current and current.complete:
            if why := current.broken:
                raise RefusedError(f"{why}; run: ccproxy-supervisor upgrade --repair")
            return self._say(f"LiteLLM {current.version} is installed")
        version = upgrades.pinned()
        with self._open("install", version) as inherit:
            lock = locks.shipped(version)
            assert lock is not None, "the package carries the lock of the version it pins"
            if wanted:
                resolved = self._resolve(inherit, f"litellm[proxy]=={version}", None, wanted, locks.pins(lock))
                lock = locks.added(lock, wanted, resolved)
            for why in advisories(denied).denied(locks.pins(lock)):
                raise RefusedError(f"refused {why}")
            if found := environments.find(version, wanted):
                examine(found, version)
            environments.switch(found or install(environments, version, lock, self._filler(inherit), self._say))
        return self._say(f"LiteLLM {version} is installed")

    def upgrade(self, version: str | None, *, dry_run: bool) -> None:
        """Go to *version*, None for the newest. Raises `InstallError` and `ConfigError`, nothing is changed then."""
        with self._open("upgrade", version, told=not dry_run) as inherit:
            upgrader = self._upgrader(inherit)
            target = upgrader.find(version)
            if self._in_use(target):
                return self._catch_up(target.version, dry_run=dry_run)
            upgrader.show(target)
            if dry_run:
                return self._say("nothing was changed (--dry-run)")
            upgrader.upgrade(target)
        return self._say(f"LiteLLM {target.version} is in use")

    def rollback(self) -> None:
        with self._open("rollback") as inherit:
            self._upgrader(inherit).rollback()
            current = self._environments.current
        self._say(f"LiteLLM {current.version if current else ''} is in use again")

    def repair(self) -> None:
        with self._open("repair") as inherit:
            mended = self._upgrader(inherit).repair()
        self._say("LiteLLM is built anew and in use" if mended else "nothing to repair")

    def _ours(self, python: str) -> bool:
        return self._home.path(python) == self._environments.link / "bin" / "python"

    def _upgrader(self, inherit: int) -> Upgrader:
        """Everything that can be checked is, before anything is downloaded."""
        settings = self._home.read_plan(os.environ, sys.executable).settings
        if not self._ours(settings.proxy.python):
            raise RefusedError(f"cannot change LiteLLM: proxy.python is {settings.proxy.python}, which is not ours")
        if not self._environments.link.is_symlink():
            raise RefusedError(
                f"cannot change LiteLLM: {self._environments.link} is not from init; move it away, run init"
            )
        hands = UpgradeTools(
            resolve=partial(self._resolve, inherit),
            releases=partial(pip.releases, "litellm"),
            fill=self._filler(inherit), prove=self._prove, roll=self._roll, follow=self._follow, named=self._named,
            confirm=self._confirm, say=self._say,
        )  # fmt: skip
        known, upgrade = advisories(settings.upgrade.denied), settings.upgrade
        return Upgrader(self._environments, known, hands, upgrade.keep, upgrade.wait, settings.proxy.packages)

    def _resolve(
        self, inherit: int, requirement: str, before: datetime | None, wanted: Sequence[str], pinned: Mapping[str, str]
    ) -> str:
        return locks.from_report(pip.resolve(requirement, lambda _: None, (inherit,), before, wanted, pinned))

    def _filler(self, inherit: int) -> Fill:
        def fill(python: Path, lock: Path) -> None:
            pip.install(python, lock, Condensed(len(locks.pins(lock.read_text())), self._show), (inherit,))

        return fill

    def _in_use(self, target: Target) -> bool:
        current = self._environments.current
        if current is None or not current.complete or current.broken:
            return False
        return (current.version, current.packages) == (target.version, locks.packages(target.lock))

    def _catch_up(self, version: str, *, dry_run: bool) -> None:
        """Nothing is to be done but, perhaps, for a daemon or some of its workers that missed it to follow."""
        status, here = self._status(), os.path.join(os.path.realpath(self._environments.link), "")
        staying = (worker for worker in status.get("workers", []) if worker["state"] != "draining")
        missed = any(not worker["python"].startswith(here) for worker in staying)
        if missed and not dry_run:
            self._roll()
        told = "nothing to do" if not missed else "the workers would follow" if dry_run else "the workers followed"
        self._say(f"LiteLLM {version} is in use; {told}")

    def _prove(self, python: Path) -> None:
        """Let the daemon try it, or do it ourselves while none runs; raises `InstallError`."""
        plan = self._home.read_plan(os.environ, os.path.join(os.path.realpath(python.parent), python.name))
        model = anyio.run(canary.model_to_ask, plan)
        order = {"python": plan.birth.python, "model": model}
        answer = self._daemon(
            "POST", "/canary", order, plan.settings.proxy.start_timeout + plan.settings.models.timeout + 60
        )
        why = anyio.run(canary.audition, self._home, plan, model) if answer is None else answer["detail"]
        if why if answer is None else not answer["ok"]:
            raise InstallError(f"LiteLLM {plan.birth.litellm_version} does not serve: {why}")

    def _roll(self) -> None:
        if not self._replace("/restart", {"cause": "upgrade"}):
            self._say("no daemon runs: it is used from the next start")

    def _follow(self) -> None:
        self._replace("/reload", {})

    def _replace(self, path: str, body: dict[str, Any]) -> bool:
        """Let the daemon bring its workers to where `venv` leads; returns whether one runs. Raises `InstallError`."""
        answer = self._daemon("POST", path, body, ROLL)
        while answer and answer["detail"].startswith(SUPERSEDED):  # that order brings them there too: wait for it
            answer = self._daemon("POST", "/reload", {}, ROLL)
        if answer and answer["result"] in ("refused", "failed"):
            raise InstallError(f"the workers were not replaced: {answer['detail']}")
        return answer is not None

    def _named(self) -> list[str]:
        return [worker["python"] for worker in self._status().get("workers", [])]

    def _status(self) -> dict[str, Any]:
        """What a daemon says of itself; nothing when none runs, or one that does not name its workers' interpreters yet."""
        status = self._daemon("GET", "/status", {}, 10.0) or {}
        return status if all("python" in worker for worker in status.get("workers", [])) else {}

    @contextmanager
    def _open(self, action: Action, version: str | None = None, *, told: bool = True) -> Iterator[int]:
        """Alone, and what came of it is written down; yields the lock's descriptor. Not *told*: nothing is wanted."""
        self._home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._environments.lock(lambda: self._say("waiting for another installation to end")) as inherit:
            begun, before = time.time(), self._environments.current
            aim = {"rollback": self._environments.previous, "repair": before}.get(action)
            wanted = aim.version if aim else version
            done = partial(self._record, action, wanted, before.version if before else None, begun)
            try:
                yield inherit
            except (InstallError, ConfigError, OSError) as error:
                if told:
                    done("refused" if isinstance(error, RefusedError) else "failed", str(error))
                raise
            if self._environments.current != before:
                done("done", "")

    def _record(
        self, action: Action, version: str | None, before: str | None, begun: float, result: Result, detail: str
    ) -> None:
        now, current = time.time(), self._environments.current
        wanted = current.version if result == "done" and current else version
        upgrades.write(
            self._home.run, upgrades.Upgrade(action, result, now, round(now - begun, 1), wanted, before, detail)
        )
        if result != "done":
            with suppress(OSError):
                incidents.write(self._home.run / "incidents", change(now, action, version, detail))
