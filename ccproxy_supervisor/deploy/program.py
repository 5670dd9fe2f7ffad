"""Other programs, run to their end within a time, whatever they do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LATE, MISSING = 124, 127  # as a shell and timeout(1) say it


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended and what it said."""

    status: int
    out: str = ""
    err: str = ""

    @property
    def said(self) -> str:
        """Its complaint, or else its answer, without the last newline."""
        return (self.err.strip() or self.out.strip()) or f"status {self.status}"


Run = Callable[..., Ran]


def run(*command: str, timeout: float = 10.0, env: Mapping[str, str] | None = None) -> Ran:
    """Run *command*, found on PATH, with *env* instead of our own environment if given; never raises."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env=env,
            check=False,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return Ran(LATE, err=f"{command[0]} did not end within {timeout:g} s")
    except OSError as error:
        return Ran(MISSING, err=f"cannot run {command[0]}: {error.strerror}")
    return Ran(done.returncode, done.stdout, done.stderr)
