"""The service as launchd is told of it: one property list, and where it belongs."""

from __future__ import annotations

import math
import os
import plistlib
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from ccproxy_supervisor.core.settings import Settings
from ccproxy_supervisor.edge import activation, last_words
from ccproxy_supervisor.edge.person import Owner

LABEL = "com.visiquate.ccproxy"
SEARCH_PATH = "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
MARGIN = 10  # seconds launchd waits beyond our own budget before it kills
OPEN_FILES = 8192  # launchd's own soft limit is 256; kern.maxfilesperproc is far above this
#: macOS asks a person before a program may look in here; a service has nobody to ask.
GUARDED = ("Desktop", "Documents", "Downloads", "Library/Mobile Documents", "Library/CloudStorage")


@dataclass(frozen=True, slots=True)
class Job:
    """What to run. *python* is the supervisor's interpreter, *config* its supervisor.yaml, both absolute."""

    label: str
    python: str
    config: Path
    settings: Settings
    owner: Owner | None = None  # of a LaunchDaemon, who it runs as; root's would be nobody's choice
    sockets: bool = False

    @property
    def home(self) -> Path:
        return self.config.parent

    @property
    def logs(self) -> Path:
        """Where the daemon will log: `~` is its own user's home, whoever installs it."""
        directory = self.settings.logs.directory
        if self.owner is not None and directory.split("/")[0] == "~":
            directory = self.owner.home + directory[1:]
        return self.home / os.path.expanduser(directory)

    @property
    def program(self) -> tuple[str, ...]:
        # -P: the home is the working directory, and a file of its owner's must not shadow a module.
        return (self.python, "-P", "-m", "ccproxy_supervisor")


@dataclass(frozen=True, slots=True)
class Place:
    """A launchd domain and the folder of its property lists."""

    domain: str
    folder: Path

    def target(self, label: str) -> str:
        return f"{self.domain}/{label}"

    def file(self, label: str) -> Path:
        return self.folder / f"{label}.plist"


def place(daemon: bool, owner: Owner | None = None) -> Place:
    """Return where a LaunchDaemon, or *owner*'s LaunchAgent (else this person's), lives."""
    if daemon:
        return Place("system", Path("/Library/LaunchDaemons"))
    uid, home = (os.getuid(), Path.home()) if owner is None else (owner.uid, Path(owner.home))
    return Place(f"gui/{uid}", home / "Library/LaunchAgents")


def command(verb: str, label: str, daemon: bool, *more: str) -> str:
    """Return what to type for a service: `install` or `uninstall`."""
    words = ["sudo"] if daemon else []
    words += ["ccproxy-supervisor", verb, *(["--daemon"] if daemon else [])]
    return shlex.join([*words, *(["--label", label] if label != LABEL else []), *more])


def out_of_reach(path: Path, person: Path) -> str | None:
    """Say why a service of *person* (a home folder) may not get at *path*, if so; links are followed."""
    for real, home in ((path, person), (path.resolve(), person.resolve())):
        for folder in GUARDED:
            if real.is_relative_to(home / folder):
                return f"in ~/{folder}, which macOS closes to services"
        if real.is_relative_to("/Volumes"):
            return "on another volume, which may be mounted after the service starts"
    return None


def exit_timeout(settings: Settings) -> int:
    """Seconds between launchd's SIGTERM and its SIGKILL: drain, kill and a margin."""
    return math.ceil(stop_budget(settings)) + MARGIN


def stop_budget(settings: Settings) -> float:
    return settings.proxy.drain_timeout + settings.proxy.kill_timeout


def plist(job: Job) -> dict[str, Any]:
    """Return the property list. No secret is ever in it: it is readable by everybody."""
    log, environment = str(job.logs / last_words.NAME), {"LANG": "en_US.UTF-8", "PATH": SEARCH_PATH}
    keys: dict[str, Any] = {
        "Label": job.label,
        "ProgramArguments": [*job.program, "run", "--config", str(job.config)],
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 5,
        "ExitTimeOut": exit_timeout(job.settings),
        "ProcessType": "Interactive",
        "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
        "WorkingDirectory": str(job.home),
        "EnvironmentVariables": environment,
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    if job.owner is not None:
        keys["UserName"] = job.owner.name
        environment["HOME"] = job.owner.home
    if job.sockets:
        keys["Sockets"] = {activation.NAME: _socket(job.settings.proxy.host, job.settings.proxy.port)}
    return keys


def _socket(host: str, port: int) -> dict[str, str]:
    family = "IPv6" if ":" in host else "IPv4"  # said, so that a name never makes two sockets
    return {"SockNodeName": host, "SockServiceName": str(port), "SockFamily": family, "SockType": "stream"}


def render(job: Job) -> bytes:
    """Write it down; raises ValueError for a path that no property list can hold."""
    try:
        return plistlib.dumps(plist(job), sort_keys=False)
    except ValueError:
        raise ValueError(f"cannot make a service of {job.home}: there are control characters in a path") from None


def installed(file: Path) -> dict[str, Any] | None:
    """Return the property list at *file*, `None` if there is none; raises ValueError if it is none."""
    try:
        found = plistlib.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, ExpatError) as error:
        raise ValueError(f"cannot read {file}: {error}") from error
    return found if isinstance(found, dict) else {}


def exit_timeout_fault(found: dict[str, Any], settings: Settings) -> str | None:
    """Say why launchd would kill a stop that is still within its budget, if it would."""
    granted = found.get("ExitTimeOut")
    if granted == 0:  # launchd waits for ever
        return None
    budget = stop_budget(settings)
    if not isinstance(granted, int) or isinstance(granted, bool):
        return f"ExitTimeOut is not set: launchd may kill after 5 s, a stop may take {budget:g} s"
    if granted > budget:
        return None
    return f"ExitTimeOut is {granted} s, but proxy.drain_timeout + proxy.kill_timeout is {budget:g} s"


def config_of(found: dict[str, Any]) -> Path | None:
    """Return the supervisor.yaml that a property list names."""
    words = [str(word) for word in found.get("ProgramArguments") or ()]
    return Path(words[words.index("--config") + 1]) if "--config" in words[:-1] else None


def services_of(config: Path, places: Iterable[Place]) -> Iterator[tuple[Place, Path, dict[str, Any]]]:
    """Find every installed service of the home of *config*: where, its property list, and what that says."""
    for place, file in ((each, file) for each in places for file in sorted(each.folder.glob("*.plist"))):
        found: dict[str, Any] = {}
        with suppress(ValueError):
            found = installed(file) or {}
        named = config_of(found)
        if named is not None and same(named, config):
            yield place, file, found


def same(one: Path, other: Path) -> bool:
    """Whether two paths are one file: macOS's file system ignores the case of letters, and a link is another way to it."""
    with suppress(OSError):
        return one.samefile(other)
    return one == other


def short_exit_timeouts(config: Path, settings: Settings, places: Iterable[Place]) -> Iterator[str]:
    """Warn of every installed service of the home of *config* that launchd would kill in the middle of a stop."""
    for _, file, found in services_of(config, places):
        if fault := exit_timeout_fault(found, settings):
            yield f"{file}: {fault}; install again, with the same options"
