"""The service: the property list on disk, and what launchd makes of it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, ok, skip, warn
from ccproxy_supervisor.deploy.launchctl import Launchctl, Loaded
from ccproxy_supervisor.deploy.launchd import Job, Place, exit_timeout_fault, installed, plist
from ccproxy_supervisor.deploy.service import EXITS, ServiceError, owner

MANY_RUNS = 20


def service(scene: Scene) -> Iterator[Finding]:
    if scene.program("launchctl", "help") is None:
        yield skip("the launchd service")
        return
    present = {kind: each for kind, each in scene.places.items() if each.file(scene.label).exists()}
    if not present:
        remedy = "ccproxy-supervisor install (on a Mac nobody logs in to: --daemon)"
        yield warn("no service is installed: nothing starts the daemon", f"no {scene.label}.plist", remedy)
    if len(present) > 1:
        evidence = ", ".join(str(each.file(scene.label)) for each in present.values())
        yield fail("two services want the same home", evidence, "remove one: ccproxy-supervisor uninstall [--daemon]")
    for kind, each in present.items():
        yield from _one(scene, each, "install --daemon" if kind == "daemon" else "install")


def _one(scene: Scene, place: Place, again: str) -> Iterator[Finding]:
    file, again = place.file(scene.label), f"ccproxy-supervisor {again}"
    try:
        keys = installed(file) or {}
    except ValueError as error:
        yield fail("the property list cannot be read", str(error), again)
        return
    again += " --socket" if "Sockets" in keys else ""
    if file.stat().st_mode & 0o022:
        mode = f"{file}: mode {stat.S_IMODE(file.stat().st_mode):04o}"
        yield fail("the property list can be written by others: launchd refuses it", mode, f"chmod 644 {file}")
    yield from _content(scene, keys, again, str(file))
    yield from _state(scene, place, again)


def _content(scene: Scene, keys: dict[str, Any], again: str, file: str) -> Iterator[Finding]:
    if isinstance(scene.plan, ConfigError):
        yield skip("the property list against the settings", "the settings cannot be used")
        return
    settings = scene.plan.settings
    fault = exit_timeout_fault(keys, settings)
    if fault:
        yield fail("launchd would kill a stop that is within its budget", fault, again)
    try:
        person = owner(keys["UserName"]) if "UserName" in keys else None
    except ServiceError as error:
        yield fail("the service's user does not exist", str(error), f"{again} --user NAME")
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
    if loaded is None:
        yield fail("the service is installed but launchd has not loaded it", control.target, again)
    elif loaded.fell:
        how = f"signal {loaded.last_signal}" if loaded.last_signal else f"exit code {loaded.last_exit}"
        meaning = EXITS.get(loaded.last_exit or 0, "see its last words in logs/launchd.log")
        yield fail(
            "launchd cannot keep the service running", f"{how}: {meaning}; {_runs(loaded)}", "mend that, then wait"
        )
    elif loaded.runs and loaded.runs > MANY_RUNS:
        yield warn("launchd had to start the service often", _runs(loaded), "ccproxy-supervisor why")
    else:
        yield ok(f"launchd runs the service ({loaded.state or 'state unknown'})", f"{control.target}, {_runs(loaded)}")
    if loaded and loaded.exit_timeout is not None and not isinstance(scene.plan, ConfigError):
        fault = exit_timeout_fault({"ExitTimeOut": loaded.exit_timeout}, scene.plan.settings)
        if fault:
            yield fail("launchd still works by an older property list", fault, again)


def _runs(loaded: Loaded) -> str:
    return f"started {loaded.runs} time{'s' if loaded.runs != 1 else ''}, pid {loaded.pid}"
