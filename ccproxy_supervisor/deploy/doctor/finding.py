"""What a check says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.settings import Settings, parse
from ccproxy_supervisor.deploy.launchd import Place
from ccproxy_supervisor.deploy.program import MISSING, Ran, Run
from ccproxy_supervisor.edge.home import Home


class Level(StrEnum):
    """How bad it is; the exit code of `doctor` follows the worst."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """*title* says what is so, *evidence* how we know, *remedy* what to do."""

    level: Level
    title: str
    evidence: str = ""
    remedy: str = ""

    def document(self) -> dict[str, str]:
        return asdict(self)


def ok(title: str, evidence: str = "") -> Finding:
    return Finding(Level.OK, title, evidence)


def warn(title: str, evidence: str, remedy: str) -> Finding:
    return Finding(Level.WARN, title, evidence, remedy)


def fail(title: str, evidence: str, remedy: str) -> Finding:
    return Finding(Level.FAIL, title, evidence, remedy)


def skip(title: str, evidence: str = "not on this system") -> Finding:
    return Finding(Level.SKIP, title, evidence)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 well, 1 warnings, 2 something is wrong."""
    levels = {finding.level for finding in findings}
    return 2 if Level.FAIL in levels else 1 if Level.WARN in levels else 0


@dataclass(frozen=True)
class Scene:
    """What the checks look at, and by what means. *label* is the service's, *traefik* the address of the front door."""

    home: Home
    label: str
    python: str  # the supervisor's interpreter
    traefik: str
    environ: Mapping[str, str]
    run: Run
    ask: Callable[[str, float], Answer | Failure]  # URL, timeout
    places: Mapping[str, Place]  # "agent" and "daemon"
    now: Callable[[], float]

    @cached_property
    def plan(self) -> Plan | ConfigError:
        """The home's configuration, read once."""
        try:
            return self.home.read_plan(self.environ)
        except ConfigError as error:
            return error

    @cached_property
    def written(self) -> Settings | None:
        """The home's settings, whatever is wrong with the files they name; `None` when they cannot be used themselves."""
        if not isinstance(self.plan, ConfigError):
            return self.plan.settings
        try:
            return parse(self.home.read(self.home.settings_file))
        except ConfigError:
            return None

    @property
    def settings(self) -> Settings:
        """The home's settings; the defaults when they cannot be used."""
        return self.written or Settings()

    def program(self, *command: str) -> Ran | None:
        """Run a program that only some systems have; `None` where it is not."""
        ran = self.run(*command)
        return None if ran.status == MISSING else ran


Check = Callable[[Scene], Iterable[Finding]]


def folder_of(path: Path) -> Path:
    """The nearest folder that exists."""
    return next(each for each in (path, *path.parents) if each.is_dir())
