"""launchctl: its verbs, its exit codes, and the part of `print` that can be relied on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ccproxy_supervisor.deploy.program import LATE, MISSING, Run

UNKNOWN = (3, 113)  # no such service: bootout, and everybody else
NO_DOMAIN = (112, 125)  # a person's domain exists only while that person is logged in at the screen
BUSY = (5, 36, 37, LATE)  # the old one is not gone yet (5 also stands for much else)

NOBODY = "nobody is logged in at this Mac's screen: log in there once, or install with --daemon"

MEANINGS = {
    3: "no such service is loaded",
    5: "launchd refuses it: it is still loaded, or its property list is not acceptable",
    36: "the old one is still being stopped",
    37: "the old one is still being stopped",
    112: NOBODY,
    113: "no such service is loaded",
    125: NOBODY,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded service as `launchctl print` shows it; what it does not show is `None`."""

    state: str = ""
    pid: int | None = None
    runs: int | None = None
    last_exit: int | None = None
    last_signal: str | None = None
    exit_timeout: int | None = None

    @property
    def fell(self) -> bool:
        """Not running, and its last process did not end well."""
        return self.pid is None and (self.last_exit not in (None, 0) or self.last_signal is not None)


def meaning(status: int, said: str) -> str:
    words = MEANINGS.get(status)
    return f"{status} ({words}): {said}" if words else f"{status}: {said}"


class Launchctl:
    """One service in one domain."""

    def __init__(self, run: Run, domain: str, label: str) -> None:
        self._run, self.domain, self.target = run, domain, f"{domain}/{label}"

    def loaded(self) -> Loaded | None:
        """Return the service's state; `None` when launchd does not know it. No answer, or one that says nothing, is not a no."""
        ran = self._run("launchctl", "print", self.target)
        return None if ran.status in (*UNKNOWN, *NO_DOMAIN, MISSING) else parse(ran.out)

    def nobody_there(self) -> bool:
        """Whether the service is not loaded because its person is not logged in."""
        return self._run("launchctl", "print", self.target).status in NO_DOMAIN

    def enable(self) -> None:
        """Lift what an earlier `launchctl disable` left: it outlives the property list."""
        self._run("launchctl", "enable", self.target)

    def bootout(self, patience: float) -> str | None:
        """Ask it to stop; return a complaint. Comes back before the process is gone."""
        ran = self._run("launchctl", "bootout", self.target, timeout=patience)
        return None if ran.status in (0, *UNKNOWN, *BUSY) else meaning(ran.status, ran.said)

    def bootstrap(self, file: Path) -> tuple[int, str]:
        """Load it; return the status and what it means."""
        ran = self._run("launchctl", "bootstrap", self.domain, str(file), timeout=30.0)
        return ran.status, meaning(ran.status, ran.said)


def parse(text: str) -> Loaded:
    """Read `launchctl print`: only lines with exactly one leading tab, nested blocks repeat the same words."""
    fields = dict(re.findall(r"^\t(?!\t)([a-z ]+) = (.*)$", text, re.MULTILINE))
    return Loaded(
        state=fields.get("state", ""),
        pid=_number(fields.get("pid")),
        runs=_number(fields.get("runs")),
        last_exit=_number(fields.get("last exit code")),
        last_signal=fields.get("last terminating signal"),
        exit_timeout=_number(fields.get("exit timeout")),
    )


def _number(text: str | None) -> int | None:
    match = re.match(r"-?\d+", text or "")
    return int(match[0]) if match else None
