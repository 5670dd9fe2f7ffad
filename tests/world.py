"""A home on one version of LiteLLM, and what an upgrade to another does to it; pip, canary and daemon are stand-ins."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ccproxy_supervisor.deploy import locks
from ccproxy_supervisor.deploy.advisories import advisories
from ccproxy_supervisor.deploy.environments import Environments
from ccproxy_supervisor.deploy.errors import InstallError
from ccproxy_supervisor.deploy.upgrade import Target, Upgrader, UpgradeTools
from wheels import unpack

OLD, NEW = "2.0.0", "2.1.0"


def lock_of(version):
    return f"litellm=={version} --hash=sha256:00\n"


def fill(python, lock):
    unpack(python.parent.parent, locks.pins(lock.read_text())["litellm"])


@dataclass
class World:
    """*fails* names the hand that does not work."""

    home: Path
    fails: str | tuple[str, ...] = ""
    named: tuple[str, ...] = ()
    agrees: bool = True
    wait: float = 0.0
    released: dict[str, datetime] = field(default_factory=dict)  # the newest first
    before: datetime | None = None  # what `resolve` was told last
    said: list[str] = field(default_factory=list)
    did: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.environments = Environments(self.home)
        self.environments.folder.mkdir(exist_ok=True)
        hands = UpgradeTools(
            resolve=self.resolve,
            releases=lambda before: [each for each in self.released if not before or self.released[each] < before],
            fill=lambda python, lock: self.hand("fill") or fill(python, lock),
            prove=lambda python: self.hand(f"prove {python.parent.parent.name}"),
            roll=lambda: self.hand("roll"),
            follow=lambda: self.hand("follow"),
            named=lambda: self.named,
            confirm=lambda question: self.agrees,
            say=self.said.append,
        )
        self.upgrader = Upgrader(self.environments, advisories(["6.6.6"]), hands, wait=self.wait)

    def resolve(self, requirement, before, wanted, pinned):
        self.before = before
        return self.hand(f"resolve {requirement}") or lock_of(NEW)

    def hand(self, what):
        self.did.append(what)
        if self.fails and what.startswith(self.fails):
            raise InstallError(f"{what} does not work")

    def upgrade(self, version=NEW):
        self.upgrader.upgrade(Target(version, lock_of(version)))

    @property
    def versions(self):
        current, previous = self.environments.current, self.environments.previous
        return current and current.path.name, previous and previous.path.name
