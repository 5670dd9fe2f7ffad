"""Another version of LiteLLM, or the one before, without losing a request: find, install, prove, switch, roll.

Every step leaves a home that works: an environment counts when it is complete, and `venv` moves in one rename.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ccproxy_supervisor.deploy import locks
from ccproxy_supervisor.deploy.advisories import Advisories
from ccproxy_supervisor.deploy.environments import Environment, Environments
from ccproxy_supervisor.deploy.errors import InstallError, RefusedError
from ccproxy_supervisor.deploy.litellm import Fill, Say, examine, install, summary
from ccproxy_supervisor.deploy.pip import NONE
from ccproxy_supervisor.edge.home import packages

LEAVING = 3.0  # seconds
SHOWN = 3  # of many releases that were passed over


@dataclass(frozen=True, slots=True)
class UpgradeTools:
    """What the work needs of the world. *resolve* makes a lock for a requirement, of what was uploaded before a time (None:
    whenever that was), with more that is wanted and what is pinned; *releases* are those of LiteLLM before a time, the newest
    first.

    *roll* brings a daemon to a new version, *follow* only those of its workers that are not where `venv` leads; *prove* and
    both raise `InstallError`. *named* are the interpreters of its workers.
    """

    resolve: Callable[[str, datetime | None, Sequence[str], Mapping[str, str]], str]
    releases: Callable[[datetime | None], list[str]]
    fill: Fill
    prove: Callable[[Path], None]
    roll: Callable[[], None]
    follow: Callable[[], None]
    named: Callable[[], Collection[str]]
    confirm: Callable[[str], bool]
    say: Say


@dataclass(frozen=True, slots=True)
class Target:
    """A version and the lock that makes it."""

    version: str
    lock: str


class Upgrader:
    """Changes the LiteLLM of one home."""

    def __init__(
        self, environments: Environments, advisories: Advisories, hands: UpgradeTools, keep: int = 2, wait: float = 0.0,
        wanted: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._environments, self._advisories, self._hands, self._keep = environments, advisories, hands, keep
        self._wait, self._wanted = wait, tuple(wanted)

    def find(self, version: str | None) -> Target:
        """Choose the lock of *version*, or of the newest release that may be installed (None). Downloads metadata only."""
        if version is not None:
            self._refuse_denied({"litellm": version})
            return Target(version, self._lock(version, self._wanted))
        unwanted = ",".join(f"!={denied}" for denied in self._advisories.unwanted("litellm"))
        before = datetime.now(UTC) - timedelta(seconds=self._wait) if self._wait else None
        lock = self._resolve(f"litellm[proxy]{unwanted}", before, self._wanted)
        self._tell_passed_over(locks.pins(lock)["litellm"], before)
        newest, current = locks.pins(lock)["litellm"], self._environments.current
        if current and locks.older(newest, current.version):
            why = f"the newest whose packages can all be installed here, and {current.version} is in use"
            raise RefusedError(f"refused LiteLLM {newest}: it is {why}")
        return Target(newest, self._lock(newest, self._wanted, lock))

    def _tell_passed_over(self, chosen: str, before: datetime | None) -> None:
        """Say which newer releases were not chosen, and why."""
        newer = [each for each in self._hands.releases(None) if locks.older(chosen, each)]
        aged = set(self._hands.releases(before)) if before and newer else set(newer)
        young = f"uploaded after {before:%Y-%m-%d %H:%M} UTC (upgrade.wait)" if before else ""
        unfit = "not all of its packages can be installed here" + (", or one was uploaded after then" if before else "")
        why = {each: unfit if each in aged else young for each in newer}
        why |= {
            each: found[0].partition(": ")[2] for each in newer if (found := self._advisories.denied({"litellm": each}))
        }
        for reason in dict.fromkeys(why.values()):
            names = [each for each in newer if why[each] == reason]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            self._hands.say(f"passed over LiteLLM {', '.join(names[:SHOWN])}{more}: {reason}")

    def show(self, target: Target) -> None:
        """Say what would change, and what is known against it."""
        current = self._environments.current
        before, after = packages(current.path) if current else {}, locks.pins(target.lock)
        rows = list(locks.changes(before, after))
        self._hands.say(f"LiteLLM {before.get('litellm', 'none')} → {target.version}, {len(rows)} packages change")
        for line in (
            *summary(rows),
            *(f"  warning: {about}" for about in self._advisories.known({"litellm": target.version} | after)),
        ):
            self._hands.say(line)

    def upgrade(self, target: Target) -> None:
        """Go to *target*; raises `InstallError`, and everything is as it was then."""
        self._refuse_denied({"litellm": target.version} | locks.pins(target.lock))
        known = self._advisories.known({"litellm": target.version} | locks.pins(target.lock))
        if known and not self._hands.confirm(f"LiteLLM {target.version} has {len(known)} known vulnerabilities."):
            raise RefusedError(f"refused LiteLLM {target.version}: {'; '.join(known)} (not confirmed; see --yes)")
        found = self._environments.find(target.version, locks.packages(target.lock))
        if found:
            examine(found, target.version)
        self._change(found or self._install(target))

    def rollback(self) -> None:
        """Go back to what was in use before; the one in use now is kept, to come back to."""
        previous = self._environments.previous
        if previous is None:
            raise RefusedError("cannot roll back: no other environment was in use before this one")
        if why := previous.broken:
            raise InstallError(f"cannot roll back to LiteLLM {previous.version}: {why}")
        self._refuse_denied({"litellm": previous.version} | packages(previous.path))
        examine(previous, previous.version)
        self._change(previous)

    def repair(self) -> str | None:
        """Build the version in use again if it is damaged; returns what was mended, None when nothing had to be."""
        current = self._environments.current
        if current is None:
            raise RefusedError("cannot repair: no environment is in use; run: ccproxy-supervisor init")
        why = current.broken
        try:
            if why is None:
                examine(current, current.version)
                return None
        except InstallError as error:
            why = str(error)
        self._hands.say(why)
        self._refuse_denied({"litellm": current.version})
        self._change(self._install(Target(current.version, self._lock_again(current))))
        return why

    def _lock_again(self, current: Environment) -> str:
        """The lock it was made from, if it is good for the Python at hand."""
        made_from = current.stamp.read_text() if current.complete else ""
        usable = made_from if made_from and locks.fits(made_from) else None
        if usable and current.packages:
            return usable
        return self._lock(current.version, current.packages, usable)

    def _lock(self, version: str, wanted: Sequence[str], found: str | None = None) -> str:
        """The lock that is shipped, else *found*, else a new one; with what is *wanted* nothing that is shipped changes."""
        shipped = locks.shipped(version)
        if not wanted:
            return shipped or found or self._resolve(f"litellm[proxy]=={version}")
        pinned = locks.pins(shipped) if shipped else NONE
        if shipped or not found:
            found = self._resolve(f"litellm[proxy]=={version}", None, wanted, pinned)
        return locks.added(shipped or "", wanted, found)

    def _resolve(
        self,
        requirement: str,
        before: datetime | None = None,
        wanted: Sequence[str] = (),
        pinned: Mapping[str, str] = NONE,
    ) -> str:
        since = f", of what was uploaded before {before:%Y-%m-%d %H:%M} UTC" if before else ""
        self._hands.say(f"choosing versions for {', '.join((requirement, *wanted))}{since}")
        return self._hands.resolve(requirement, before, wanted, pinned)

    def _install(self, target: Target) -> Environment:
        return install(self._environments, target.version, target.lock, self._hands.fill, self._hands.say)

    def _change(self, new: Environment) -> None:
        environments, say = self._environments, self._hands.say
        try:
            say(f"LiteLLM {new.version}: trying it with your configuration")
            self._hands.prove(new.python)
            before = environments.current
            environments.switch(new)
            try:
                self._hands.roll()
            except InstallError as error:
                self._go_back(before, error)
                raise
        finally:
            self._prune()

    def _go_back(self, before: Environment | None, error: InstallError) -> None:
        """Undo a switch, also for the workers that made it before *error* came."""
        self._environments.use(before)
        try:
            self._hands.follow()
        except InstallError as worse:
            raise InstallError(f"{error}; nor could every worker be brought back: {worse}") from None

    def _prune(self) -> None:
        """What still runs from an environment that was left has this long to end; else the next change prunes it."""
        until = time.monotonic() + LEAVING
        with suppress(InstallError):  # a daemon that does not say what it runs from
            named = self._hands.named()
            while True:
                for gone in self._environments.prune(self._keep, named):
                    self._hands.say(f"removed {gone.path}")
                if len(self._environments.all()) <= self._keep or time.monotonic() > until:
                    return
                time.sleep(0.1)

    def _refuse_denied(self, packages: Mapping[str, str]) -> None:
        for why in self._advisories.denied(packages):
            raise RefusedError(f"refused {why}")
