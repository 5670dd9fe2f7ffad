"""What a step of the self-test is, and what it finds; each runs in a process of its own, which may hang or die of it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ccproxy_supervisor.deploy.program import LATE, Run

LONGEST = 20.0  # seconds a step may take
ELSEWHERE = "only on macOS"


class Outcome(StrEnum):
    """Whether an assumption holds; `noted` is a fact that the daemon can live with either way."""

    HOLDS = "holds"
    FAILS = "fails"
    NOTED = "noted"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    verdict: Outcome
    said: str = ""

    def document(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Step:
    """*assumes* is what the daemon takes for granted; *look* finds out whether it is so."""

    name: str
    assumes: str
    look: Callable[[], Result]
    mac: bool = False


def holds(said: str = "") -> Result:
    return Result(Outcome.HOLDS, said)


def fails(said: str) -> Result:
    return Result(Outcome.FAILS, said)


def noted(said: str) -> Result:
    return Result(Outcome.NOTED, said)


def unknown(said: str) -> Result:
    return Result(Outcome.UNKNOWN, said)


def judged(good: bool, said: str) -> Result:
    return holds(said) if good else fails(said)


def read(document: Any) -> Result:
    """Read what `document` wrote; raises ValueError, LookupError or TypeError."""
    return Result(Outcome(document["verdict"]), str(document["said"]))


def alone(step: Step, run: Run, platform: str = sys.platform) -> Result:
    """Run *step* in a process of its own; how that ends is a result too."""
    if step.mac and platform != "darwin":
        return Result(Outcome.SKIPPED, ELSEWHERE)
    ran = run(sys.executable, "-P", "-m", "ccproxy_supervisor.selftest", "step", step.name, timeout=LONGEST)
    if ran.status == LATE:
        return fails(f"no result within {LONGEST:g} s")
    if ran.status < 0:
        return fails(f"the step was ended by {signal.Signals(-ran.status).name}")
    with suppress(ValueError, LookupError, TypeError):
        return read(json.loads(ran.out.splitlines()[-1]))
    return unknown(f"the step broke: {ran.said.splitlines()[-1]}")
