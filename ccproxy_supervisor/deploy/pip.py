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
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ccproxy_supervisor.deploy.errors import InstallError

Progress = Callable[[str], None]
_WHEELS = ("--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--retries", "3",
           "--no-user", "--target=", "--root=/")  # fmt: skip  # the last three: also when pip.conf says another place
_OURS = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_REQUIREMENT", "PYTHONPATH", "PYTHONHOME")  # fmt: skip
#: Said by the environment, which goes before pip.conf; where we want one of them it is on the command line.
_NOT_ASKED = {"PIP_REQUIRE_HASHES": "0", "PIP_DRY_RUN": "0", "PIP_NO_DEPS": "0"}
_PATIENCE = 5.0  # seconds for an interrupted pip to clean up
_UNREACHABLE = ("Temporary failure in name resolution", "Failed to resolve", "nodename nor servname", "Network is unreachable",
                "NewConnectionError", "ProxyError", "Connection refused", "ConnectTimeout", "Read timed out", "SSLError")  # fmt: skip


def resolve(requirement: str, progress: Progress, inherit: Sequence[int] = ()) -> dict[str, Any]:
    """Have pip choose versions for *requirement*; returns its report. Raises `InstallError`."""
    with tempfile.TemporaryDirectory(prefix="ccproxy-") as folder:
        report = Path(folder, "report.json")
        words = ("install", "--dry-run", "--ignore-installed", "--report", str(report), requirement)
        _run(words, f"resolve {requirement}", progress, inherit)
        resolved: dict[str, Any] = json.loads(report.read_text())
    return resolved


def install(python: Path, lock: Path, progress: Progress, inherit: Sequence[int] = ()) -> None:
    """Put what *lock* names into the environment of *python*, which must not hold any packages yet.

    Our pip has itself run by *python*. It starts while there is nothing of theirs to run, and of what it puts in place
    it imports nothing: its own modules and the standard library come first.
    """
    words = ("--python", str(python), "install", "--require-hashes", "--no-deps", "--no-compile")
    where = ("--prefix", str(python.parent.parent), "--no-warn-script-location")
    _run((*words, *where, "--requirement", str(lock)), "install LiteLLM", progress, inherit)


def _run(words: Sequence[str], what: str, progress: Progress, inherit: Sequence[int]) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in _OURS}
    environ |= {"PYTHONUNBUFFERED": "1", "PIP_NO_COLOR": "1", **_NOT_ASKED}
    complaints: list[str] = []
    with subprocess.Popen(
        (sys.executable, "-P", "-m", "pip", *words, *_WHEELS), env=environ, pass_fds=inherit, text=True, errors="replace",
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
    errors = [line.removeprefix("ERROR:").strip() for line in complaints if line.startswith("ERROR:")]
    told = [line for line in errors if not line.startswith("Ignored the following")]
    return (told[-1] if told else f"pip ended without a reason ({said[-200:]})")[:400]
