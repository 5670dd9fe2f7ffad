"""A throw-away launchd job, made, looked into and taken away again: what its caller learns of it."""

from __future__ import annotations

import json
import os
import plistlib
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ccproxy_supervisor.deploy.launchctl import Launchctl
from ccproxy_supervisor.deploy.launchd import SEARCH_PATH
from ccproxy_supervisor.deploy.service import Hands
from ccproxy_supervisor.edge.activation import NAME
from ccproxy_supervisor.selftest.inside import GREETING, RESULTS, STOPPED
from ccproxy_supervisor.selftest.step import Result, fails, holds, judged, read, unknown

LONGEST = 120.0  # seconds for all steps of a job
PATIENCE = 20.0  # seconds for a start or a stop
LABEL = "com.visiquate.ccproxy.selftest"


@dataclass
class Found:
    """What the job found by itself (*steps*), and what its caller found of it (*about*)."""

    steps: dict[str, Result] = field(default_factory=dict)
    about: dict[str, Result] = field(default_factory=dict)


def label() -> str:
    """A name that no service has."""
    return f"{LABEL}.{secrets.token_hex(3)}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def look_into(folder: Path, hands: Hands, environ: Mapping[str, str]) -> Found:
    """Have launchd run every step in *folder*, which is ours to throw away."""
    found, port, name = Found(), free_port(), label()
    file = folder / f"{name}.plist"
    file.write_bytes(plistlib.dumps(_keys(name, folder, port, environ)))
    file.chmod(0o644)
    control = Launchctl(hands.run, f"gui/{os.getuid()}", name)
    status, meaning = control.bootstrap(file)
    if status:
        found.about["job"] = unknown(f"launchd did not take a job: {meaning}")
        return found
    with _taken_away(control, folder, hands, found):
        if not hands.until((folder / RESULTS).exists, LONGEST):
            words = (
                (folder / "job.log").read_text(errors="replace").splitlines()[-1:]
                if (folder / "job.log").exists()
                else []
            )
            found.about["job"] = fails(f"the job left no results within {LONGEST:g} s {' '.join(words)}".rstrip())
            return found
        document = json.loads((folder / RESULTS).read_text())
        found.steps = {step: read(each) for step, each in document["results"].items()}
        found.about["job"] = holds("launchd ran a job of ours")
        found.about["given"] = read(document["given"])
        found.about["socket-activation"] = _greeted(port, document["sockets"])
    return found


def _keys(name: str, folder: Path, port: int, environ: Mapping[str, str]) -> dict[str, object]:
    passed = {key: environ[key] for key in ("PYTHONPATH",) if key in environ}
    return {
        "Label": name,
        "ProgramArguments": [sys.executable, "-P", "-m", "ccproxy_supervisor.selftest", "job", str(folder)],
        "RunAtLoad": True,
        "KeepAlive": False,
        "ExitTimeOut": 10,
        "ProcessType": "Interactive",
        "WorkingDirectory": str(folder),
        "EnvironmentVariables": {"LANG": "en_US.UTF-8", "PATH": SEARCH_PATH, **passed},
        "StandardOutPath": str(folder / "job.log"),
        "StandardErrorPath": str(folder / "job.log"),
        "Sockets": {NAME: {"SockNodeName": "127.0.0.1", "SockServiceName": str(port), "SockFamily": "IPv4", "SockType": "stream"}},
    }  # fmt: skip


def _greeted(port: int, sockets: int) -> Result:
    if not sockets:
        return fails("launchd handed no socket over")
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        return judged(client.recv(64) == GREETING, "a client of launchd's socket was answered by the job")
    return fails("a client of launchd's socket was not answered")


@contextmanager
def _taken_away(control: Launchctl, folder: Path, hands: Hands, found: Found) -> Iterator[None]:
    try:
        yield
    finally:
        complaint = control.bootout(PATIENCE)
        gone = hands.until(lambda: control.loaded() is None, PATIENCE)
        heard = hands.until((folder / STOPPED).exists, 1.0)
        said = complaint or ("" if gone else "launchd still shows it") or ("" if heard else "it was not asked to stop")
        found.about["stop"] = fails(said) if said else holds("SIGTERM came, and the job is gone")
