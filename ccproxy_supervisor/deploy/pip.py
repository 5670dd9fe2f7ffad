"""pip, run by our own interpreter: the installer is of our environment, never of the one it fills.

Packages come as wheels only, so nothing of theirs is executed: neither while versions are resolved nor while files are
put in place. What the user told pip (an index of their own, a proxy) is heeded; where to install is ours to say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ccproxy_supervisor.deploy.errors import InstallError

Progress = Callable[[str], None]
_WHEELS = (
    "--only-binary",
    ":all:",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar",
    "off",
    "--retries",
    "3",
)
_PLACES = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PYTHONPATH", "PYTHONHOME")
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

    *python* is started once, before there is anything of theirs for it to run.
    """
    words = (
        "--python",
        str(python),
        "install",
        "--require-hashes",
        "--no-deps",
        "--no-compile",
        "--no-warn-script-location",
    )
    _run((*words, "--requirement", str(lock)), "install LiteLLM", progress, inherit)


def _run(words: Sequence[str], what: str, progress: Progress, inherit: Sequence[int]) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in _PLACES}
    environ |= {"PYTHONUNBUFFERED": "1", "PIP_NO_COLOR": "1"}
    complaints: list[str] = []
    with subprocess.Popen(
        (sys.executable, "-P", "-m", "pip", *words, *_WHEELS), env=environ, pass_fds=inherit, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, 10)  # the workers that serve meanwhile come first
        try:
            for line in process.stdout or ():
                if line.startswith(("ERROR:", "WARNING: Retrying")) or complaints:
                    complaints.append(line.strip())
                progress(line.strip())
        except BaseException:
            with suppress(ProcessLookupError):
                process.terminate()
            raise
    if process.returncode:
        raise InstallError(f"cannot {what}: {_reason(complaints)}")


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
