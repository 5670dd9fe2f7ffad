"""The job that launchd starts: what it was given, every step, its socket, and a stop that it hears."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ccproxy_supervisor.deploy.program import run
from ccproxy_supervisor.edge.activation import ActivationError, public_sockets
from ccproxy_supervisor.selftest.step import Result, alone, judged
from ccproxy_supervisor.selftest.steps import STEPS

RESULTS, STOPPED = "results.json", "stopped"
GREETING = b"from inside\n"


def main(folder: Path) -> None:
    """Leave what was found in *folder*, greet who comes by the socket, and wait to be stopped."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    given = _given()
    try:
        listeners = public_sockets()
    except ActivationError:
        listeners = []
    results = {step.name: alone(step, run).document() for step in STEPS}
    partial = folder / f".{RESULTS}"
    partial.write_text(json.dumps({"given": given.document(), "sockets": len(listeners), "results": results}))
    partial.replace(folder / RESULTS)
    for listener in listeners:
        listener.settimeout(0.5)
    while not stopped:
        for listener in listeners:
            with suppress(TimeoutError, OSError), listener.accept()[0] as client:
                client.sendall(GREETING)
        if not listeners:
            time.sleep(0.2)
    (folder / STOPPED).touch()


def _given() -> Result:
    """What a launchd job starts with, as the daemon knows it from others' measurements."""
    facts: dict[str, Any] = {
        "leads its group": os.getpgid(0) == os.getpid(),
        "has no other descriptors": not any(_open(fd) for fd in range(3, 20)),
        "has a search path": "/usr/bin" in os.environ.get("PATH", ""),
        "knows its home": os.path.isdir(os.environ.get("HOME", "")),
        "knows its label": bool(os.environ.get("XPC_SERVICE_NAME")),
    }
    if sys.platform == "darwin":
        facts["is launchd's child"] = os.getppid() == 1
    missing = [fact for fact, true in facts.items() if not true]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    said = f"{soft} open files, nice {os.nice(0)}"
    return judged(not missing, f"{said}; not so: {', '.join(missing)}" if missing else f"{', '.join(facts)}; {said}")


def _open(fd: int) -> bool:
    """Whether a descriptor is open and not a socket, which elsewhere than on macOS is handed over by number."""
    with suppress(OSError):
        return not stat.S_ISSOCK(os.fstat(fd).st_mode)
    return False
