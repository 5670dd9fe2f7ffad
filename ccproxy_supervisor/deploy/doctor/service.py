"""The service: the property list on disk, and what launchd makes of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, ok, skip, warn
from ccproxy_supervisor.deploy.launchctl import NOBODY, Launchctl, Loaded
from ccproxy_supervisor.deploy.launchd import Job, Place, command, exit_timeout_fault, installed, plist
from ccproxy_supervisor.deploy.service import ServiceError, ending, owner
from ccproxy_supervisor.edge.home import locate

MANY_RUNS = 20


def service(scene: Scene) -> Iterator[Finding]:
    if scene.program("launchctl", "help") is None:
        yield skip("the launchd service")
        return
    present = {kind: each for kind, each in scene.places.items() if each.file(scene.label).exists()}
    if not present:
        remedy = " or, where nobody logs in: ".join(_again(scene, {}, daemon=daemon) for daemon in (False, True))
        yield warn("no service is installed: nothing starts the daemon", f"no {scene.label}.plist", remedy)
    if len(present) > 1:
        evidence = ", ".join(str(each.file(scene.label)) for each in present.values())
        remedy = " or ".join(command("uninstall", scene.label, kind == "daemon") for kind in present)
        yield fail("two services want the same home", evidence, f"remove one: {remedy}")
    for kind, each in present.items():
        yield from _one(scene, each, daemon=kind == "daemon")


def _again(scene: Scene, keys: dict[str, Any], *, daemon: bool) -> str:
    """The command that installs the service as it is: of the same label, home and user."""
    user = keys.get("UserName")
    usual = scene.home == locate(None, {"HOME": scene.environ.get("HOME", "")})
    more = [] if usual else ["--config", str(scene.home.settings_file)]
    more += ["--user", str(user)] if daemon and user else []
    return command("install", scene.label, daemon, *more, *(["--socket"] if "Sockets" in keys else []))


def _one(scene: Scene, place: Place, *, daemon: bool) -> Iterator[Finding]:
    file = place.file(scene.label)
    try:
        keys = installed(file) or {}
    except ValueError as error:
        yield fail("the property list cannot be read", str(error), _again(scene, {}, daemon=daemon))
        return
    again = _again(scene, keys, daemon=daemon)
    found = file.stat()
    if found.st_mode & 0o022:
        mode = f"{file}: mode {stat.S_IMODE(found.st_mode):04o}"
        yield fail("the property list can be written by others: launchd refuses it", mode, f"chmod 644 {file}")
    if found.st_uid not in ((0,) if daemon else (0, os.getuid())):
        yield fail("the property list is somebody else's: launchd refuses it", f"{file}: user {found.st_uid}", again)
    yield from _content(scene, keys, again, str(file))
    yield from _state(scene, place, again)


def _content(scene: Scene, keys: dict[str, Any], again: str, file: str) -> Iterator[Finding]:
    settings = scene.written
    if settings is None:
        yield skip("the property list against the settings", "the settings cannot be used")
        return
    fault = exit_timeout_fault(keys, settings)
    if fault:
        yield fail("launchd would kill a stop that is within its budget", fault, again)
    try:
        person = owner(keys["UserName"]) if "UserName" in keys else None
    except ServiceError as error:
        yield fail("the service's user does not exist", str(error), f"{again}, with another --user")
        return
    python = (keys.get("ProgramArguments") or [scene.python])[0]
    wanted = plist(Job(scene.label, scene.python, scene.home.settings_file, settings, person, "Sockets" in keys))
    different = sorted(key for key in wanted.keys() | keys.keys() if wanted.get(key) != keys.get(key))
    if not different:
        yield ok("the property list is what install would write", file)
        return
    if different == ["ProgramArguments"] and python != scene.python:
        evidence = f"it starts {python}, this is {scene.python}"
        yield warn("the service runs another supervisor than this one", evidence, f"if this one is meant: {again}")
        return
    evidence = "; ".join(f"{key}: {keys.get(key)!r}, wanted {wanted.get(key)!r}" for key in different)
    yield warn("the property list is not what install would write", evidence, again)


def _state(scene: Scene, place: Place, again: str) -> Iterator[Finding]:
    control = Launchctl(scene.run, place.domain, scene.label)
    loaded = control.loaded()
    if loaded is None and control.nobody_there():
        yield fail("the service waits for its person to log in", control.target, NOBODY)
    elif loaded is None:
        yield fail("the service is installed but launchd has not loaded it", control.target, again)
    elif loaded.fell:
        yield fail("launchd cannot keep the service running", _runs(loaded), "mend that, then wait")
    elif ending(loaded):
        yield warn("launchd had to start the service again", _runs(loaded), "ccproxy-supervisor why")
    elif loaded.runs and loaded.runs > MANY_RUNS:
        yield warn("launchd had to start the service often", _runs(loaded), "ccproxy-supervisor why")
    else:
        yield ok(f"launchd runs the service ({loaded.state or 'state unknown'})", f"{control.target}, {_runs(loaded)}")
    if loaded and loaded.exit_timeout is not None and scene.written:
        fault = exit_timeout_fault({"ExitTimeOut": loaded.exit_timeout}, scene.written)
        if fault:
            yield fail("launchd still works by an older property list", fault, again)


def _runs(loaded: Loaded) -> str:
    """What happened to the service: it may run now and still have fallen before."""
    how = f"the last time it ended with {ending(loaded)}, " if ending(loaded) else ""
    return f"{how}started {loaded.runs} time{'s' if loaded.runs != 1 else ''}, pid {loaded.pid}"
