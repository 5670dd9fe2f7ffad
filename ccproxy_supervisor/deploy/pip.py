"""pip, run by our own interpreter: the installer is of our environment, never of the one it fills.

Packages come as wheels only, so nothing of theirs is executed: neither while versions are resolved nor while files are
put in place. What the user told pip (an index of their own, a proxy) is heeded; what to install, and where, is ours to say.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ccproxy_supervisor.deploy.errors import InstallError

Progress = Callable[[str], None]
_QUIET = ("--no-input", "--disable-pip-version-check", "--retries", "3")
_WHEELS = ("--only-binary", ":all:", "--progress-bar", "off")
_HERE = ("--no-user", "--target=", "--root=/")  # also when pip.conf says another place
_OURS = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_REQUIREMENT", "PYTHONPATH", "PYTHONHOME")  # fmt: skip
#: Said by the environment, which goes before pip.conf; where we want one of them it is on the command line.
_NOT_ASKED = {"PIP_REQUIRE_HASHES": "0", "PIP_DRY_RUN": "0", "PIP_NO_DEPS": "0"}
_NAME_ONE = "name one on purpose, with --to VERSION, or do without waiting: upgrade.wait: 0s"
NONE: Mapping[str, str] = MappingProxyType({})
_PATIENCE = 5.0  # seconds for an interrupted pip to clean up
_UNREACHABLE = ("Temporary failure in name resolution", "Failed to resolve", "nodename nor servname", "Network is unreachable",
                "NewConnectionError", "ProxyError", "Connection refused", "ConnectTimeout", "Read timed out", "SSLError")  # fmt: skip


def resolve(
    requirement: str, progress: Progress, inherit: Sequence[int] = (), before: datetime | None = None,
    wanted: Sequence[str] = (), pinned: Mapping[str, str] = NONE,
) -> dict[str, Any]:  # fmt: skip
    """Have pip choose versions for *requirement*, and what else is *wanted*, of what was uploaded *before*, save what is
    *pinned*; returns its report. Raises `InstallError`."""
    with tempfile.TemporaryDirectory(prefix="ccproxy-") as folder:
        report, constraints = Path(folder, "report.json"), Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in pinned.items()))
        words = ["install", *_WHEELS, *_HERE, "--dry-run", "--ignore-installed", "--report", str(report)]
        words += [*_uploaded(before), "--constraint", str(constraints)]
        _run((*words, requirement, *wanted), f"resolve {', '.join((requirement, *wanted))}", progress, inherit)
        resolved: dict[str, Any] = json.loads(report.read_text())
    return resolved


def releases(package: str, before: datetime | None = None) -> list[str]:
    """The stable versions of *package* that were uploaded *before*, the newest first. Raises `InstallError`."""
    said: list[str] = []
    _run(
        ("index", "versions", "--json", "--only-binary", ":all:", *_uploaded(before), package),
        f"list the releases of {package}",
        said.append,
        (),
    )
    told = next((line for line in said if line.startswith("{")), "{}")
    return list(json.loads(told).get("versions", ()))


def _uploaded(before: datetime | None) -> tuple[str, ...]:
    return ("--uploaded-prior-to", before.isoformat()) if before else ()


def install(python: Path, lock: Path, progress: Progress, inherit: Sequence[int] = ()) -> None:
    """Put what *lock* names into the environment of *python*, which must not hold any packages yet.

    Our pip has itself run by *python*. It starts while there is nothing of theirs to run, and of what it puts in place
    it imports nothing: its own modules and the standard library come first.
    """
    words = ("--python", str(python), "install", *_WHEELS, *_HERE, "--require-hashes", "--no-deps", "--no-compile")
    where = ("--prefix", str(python.parent.parent), "--no-warn-script-location")
    _run((*words, *where, "--requirement", str(lock)), "install LiteLLM", progress, inherit)


def _run(words: Sequence[str], what: str, progress: Progress, inherit: Sequence[int]) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in _OURS}
    environ |= {"PYTHONUNBUFFERED": "1", "PIP_NO_COLOR": "1", **_NOT_ASKED}
    complaints: list[str] = []
    with subprocess.Popen(
        (sys.executable, "-P", "-m", "pip", *words, *_QUIET), env=environ, pass_fds=inherit, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, 10)  # the workers that serve meanwhile come first
        try:
            for line in process.stdout or ():
                if line.startswith(("ERROR:", "WARNING: Retrying")) or complaints:
                    complaints.append(line.strip())
                progress(line.strip())
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise InstallError(f"cannot {what}: {_reason(complaints)}")


def _end(process: subprocess.Popen[str]) -> None:
    """Stop pip and the one it has run by another interpreter; when this returns, neither writes anything any more."""
    for number, patience in ((signal.SIGINT, _PATIENCE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=patience)  # their output ends when both have
            return


def _reason(complaints: Sequence[str]) -> str:
    """One cause a person can act on, out of what pip said."""
    said = "\n".join(complaints)
    if "No space left on device" in said:
        return "the disk is full"
    if any(sign in said for sign in _UNREACHABLE):
        return "the package index does not answer; is there a network?"
    if "DO NOT MATCH THE HASHES" in said:
        return "a package is not the one that the lock names (its hash differs); it was not installed"
    if "does not provide upload-time metadata" in said:
        return f"the package index does not say when a release was uploaded; {_NAME_ONE}"
    errors = [line.removeprefix("ERROR:").strip() for line in complaints if line.startswith("ERROR:")]
    told = [line for line in errors if not line.startswith("Ignored the following")]
    return (told[-1] if told else f"pip ended without a reason ({said[-200:]})")[:400]
