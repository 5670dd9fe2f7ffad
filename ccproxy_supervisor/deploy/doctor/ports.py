"""Who is on the two ports, and how the daemon says it is."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from ccproxy_supervisor.core.answer import Answer
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.settings import Settings
from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, ok, skip, warn
from ccproxy_supervisor.deploy.launchd import installed
from ccproxy_supervisor.edge.listener import holder
from ccproxy_supervisor.edge.ownership import control_of, owned, owner


@dataclass(frozen=True)
class Seen:
    """A port and whoever was seen on it; *pid* is `None` when the system does not say."""

    answered: bool
    pid: int | None
    who: str


def daemon(scene: Scene) -> Iterator[Finding]:
    settings = scene.written
    if settings is None:
        yield skip("the daemon's own word", "without usable settings its address is not known")
        return
    status = ask_status(scene, settings)
    held, pid = owned(scene.home.run), owner(scene.home.run)
    where = f"nothing answers on {settings.admin.host}:{settings.admin.port}"
    if held:
        yield from _control(scene, settings, pid)
    if status is None and held:
        yield fail("the daemon runs, but its admin pages do not answer", f"{where}; pid {pid}", "see supervisor.log")
    elif status is None:
        yield fail(
            "the daemon does not run", where, "ccproxy-supervisor install, or in a terminal: ccproxy-supervisor run"
        )
    elif status.get("status") in ("healthy", "starting"):
        yield ok(f"the daemon says it is {status['status']}", f"pid {status.get('pid')}, up {status.get('uptime')} s")
    else:
        level = warn if status.get("status") == "degraded" else fail
        yield level(f"the daemon says it is {status.get('status')}", _troubles(status), "ccproxy-supervisor why")


def _control(scene: Scene, settings: Settings, pid: int | None) -> Iterator[Finding]:
    """Of a daemon that runs: whether orders reach it."""
    path = scene.home.path(control_of(scene.home.run) or settings.admin.socket)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            remedy = f"it restores it within 5 s; if it does not, see supervisor.log, and reload by: kill -HUP {pid or 'PID'}"
            yield fail(
                "the daemon runs, but its control socket is gone", f"{path}: {error.strerror}; pid {pid}", remedy
            )
        else:
            yield ok("the daemon takes orders", f"pid {pid} on {path}")


def ports(scene: Scene) -> Iterator[Finding]:
    settings = scene.written
    if settings is None:
        yield skip("who holds the ports", "without usable settings they are not known")
        return
    status = ask_status(scene, settings)
    pid = status.get("pid") if status else None
    proxy, admin = settings.proxy, settings.admin
    yield judge("proxy", proxy.port, look(scene, proxy.host, proxy.port), pid, activated=_activated(scene))
    yield judge("admin", admin.port, look(scene, admin.host, admin.port), pid)


def _activated(scene: Scene) -> bool:
    """Whether a property list has launchd hold the public socket, also while the daemon is down."""
    for place in scene.places.values():
        with suppress(ValueError):  # another check tells of it
            if "Sockets" in (installed(place.file(scene.label)) or {}):
                return True
    return False


def judge(name: str, port: int, seen: Seen, daemon: int | None, *, activated: bool = False) -> Finding:
    """Whether the right one is on *port*: *daemon*, its workers, or launchd for it, which only root can see there."""
    if not seen.answered:
        if daemon is None:
            return ok(f"port {port} is free for {name}.port", "nothing listens")
        return fail(f"nothing listens on port {port} ({name}.port)", f"the daemon runs as pid {daemon}", "see its log")
    if daemon is None and activated and seen.pid in (None, 1):
        return ok(
            f"port {port} ({name}.port) is held by launchd, for the daemon", seen.who or "as its property list says"
        )
    if daemon is None:
        remedy = f"end it, or choose another {name}.port"
        return fail(f"port {port} ({name}.port) is held by a stranger", seen.who or "nobody we may see", remedy)
    if seen.pid is None or seen.pid in (1, daemon) or _child(seen.pid, daemon):
        return ok(f"port {port} ({name}.port) is held by the daemon", seen.who or f"pid {daemon} answers")
    return fail(f"port {port} ({name}.port) is held by a stranger", seen.who, f"end it, or choose another {name}.port")


def look(scene: Scene, host: str, port: int) -> Seen:
    who = holder(host, port) or _lsof(scene, port)
    if who:
        pid = re.search(r"pid (\d+)", who)
        return Seen(answered=True, pid=int(pid[1]) if pid else None, who=who)
    address = f"[{host}]" if ":" in host else host
    outcome = scene.ask(f"http://{address}:{port}/health/liveliness", 2.0)
    return Seen(answered=isinstance(outcome, Answer) or outcome.reason != "refused", pid=None, who="")


def _lsof(scene: Scene, port: int) -> str | None:
    """What lsof says: on macOS it sees our own processes, where the library sees none without root."""
    ran = scene.program("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc")
    if ran is None:
        return None
    match = re.search(r"^p(\d+)\nc(.*)$", ran.out, re.MULTILINE)
    return f"pid {match[1]} ({match[2]})" if match else None


def ask_status(scene: Scene, settings: Settings) -> dict[str, Any] | None:
    """Ask the running daemon's `/status`; `None` without a proper answer."""
    host = f"[{settings.admin.host}]" if ":" in settings.admin.host else settings.admin.host
    outcome = scene.ask(f"http://{host}:{settings.admin.port}/status", 3.0)
    if not isinstance(outcome, Answer):
        return None
    try:
        status = json.loads(outcome.body)
    except ValueError:
        return None
    return status if isinstance(status, dict) and "status" in status else None


def _child(pid: int, daemon: int) -> bool:
    return known(lambda: any(parent.pid == daemon for parent in psutil.Process(pid).parents()), otherwise=False)


def _troubles(status: dict[str, Any]) -> str:
    workers = [worker for worker in status.get("workers", []) if worker.get("state") != "standby"]
    found = [
        f"slot {worker.get('slot')}: {worker.get('state')}" for worker in workers if worker.get("state") != "serving"
    ]
    found += [
        f"model {model['name']} is not well" for model in status.get("models", []) if model.get("healthy") is False
    ]
    ollama = status.get("ollama") or {}
    found += ["Ollama is down"] if ollama.get("up") is False else []
    found += [f"Ollama lacks {name}" for name in ollama.get("missing", [])]
    return "; ".join(found) or str(status.get("detail", ""))
