"""Make the daemon a launchd service, take that back, and look at the machine around it."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ccproxy_supervisor.cli.common import Command, NotRunning, ask, config_option, home_of
from ccproxy_supervisor.cli.output import confirm, fail, say, say_json
from ccproxy_supervisor.edge.home import Home, locate
from ccproxy_supervisor.edge.person import acting_as

if TYPE_CHECKING:
    from pathlib import Path

    from ccproxy_supervisor.core.answer import Answer, Failure
    from ccproxy_supervisor.core.settings import Settings
    from ccproxy_supervisor.deploy.doctor import Finding
    from ccproxy_supervisor.deploy.launchd import Job
    from ccproxy_supervisor.deploy.service import Hands
    from ccproxy_supervisor.edge.person import Owner

LABEL = "com.visiquate.ccproxy"
TRAEFIK = "http://127.0.0.1:8080"
MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "skip": ("-", "bright_black")}


def label_option(command: Command) -> Command:
    return click.option("--label", default=LABEL, show_default=True, help="Name of the service.")(command)


def daemon_option(command: Command) -> Command:
    text = "A LaunchDaemon: starts without a login, needs sudo. Else a LaunchAgent of this person's."
    return click.option("--daemon", is_flag=True, help=text)(command)


@click.command()
@config_option
@label_option
@daemon_option
@click.option("--user", metavar="NAME", help="Who a LaunchDaemon runs as.  [default: who called sudo]")
@click.option(
    "--socket", is_flag=True, help="launchd holds the public socket: no restart of the daemon refuses anybody."
)
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
def install(config: str | None, label: str, user: str | None, *, daemon: bool, socket: bool, dry_run: bool) -> None:
    """Make the daemon a launchd service, or replace the one there is, and wait until it serves.

    Example: ccproxy-supervisor install
    """
    from ccproxy_supervisor.deploy import launchd, service

    owner = _owner(user) if daemon else None
    job, place = _job(_home(config, owner), label, owner, socket), launchd.place(daemon)
    try:
        service.refuse_rivals(job, place, (launchd.place(daemon=False, owner=owner), launchd.place(daemon=True)))
        if dry_run:
            say("\n".join(service.steps(job, place)))
            return
        _need_launchctl()
        service.refuse_misuse(job)
        service.install(job, place, _hands())
    except (service.ServiceError, ValueError) as error:
        fail(str(error))


@click.command()
@config_option
@label_option
@daemon_option
@click.option("--purge", is_flag=True, help="Also delete the home folder: settings, logs, LiteLLM, everything.")
@click.option("--yes", is_flag=True, help="Do not ask before that.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
def uninstall(config: str | None, label: str, *, daemon: bool, purge: bool, yes: bool, dry_run: bool) -> None:
    """Stop the service and remove it. Settings, logs and LiteLLM stay, unless --purge.

    Example: ccproxy-supervisor uninstall
    """
    from ccproxy_supervisor.deploy import deletion, launchd, service

    if not daemon and os.geteuid() == 0 and os.environ.get("SUDO_USER"):
        fail("cannot remove a LaunchAgent with sudo: run it as yourself, or add --daemon")
    place = launchd.place(daemon)
    home = _home_of_service(place.file(label), config, daemon=daemon, purge=purge)
    person = _person_of_service(place.file(label)) if daemon else None
    if dry_run:
        say(f"launchctl bootout {place.target(label)}, and wait until it is gone\nremove {place.file(label)}")
        say(f"delete {home.folder}" if purge else f"keep {home.folder}")
        return
    _need_launchctl()
    if daemon and os.geteuid() != 0:
        fail("cannot remove a LaunchDaemon without root: run it with sudo")
    try:
        if purge:
            with acting_as(person):
                deletion.check(home.settings_file)
                _confirm(home.folder, yes)
        removed = service.uninstall(label, place, _hands())
        say(f"removed {place.target(label)}" if removed else f"{place.target(label)} was not installed")
        if purge:
            with acting_as(person):
                _refuse_to_purge_the_living(home)
                deletion.delete(home.settings_file)
            say(f"deleted {home.folder}")
    except (service.ServiceError, OSError) as error:
        fail(str(error))


@click.command()
@config_option
@label_option
@click.option("--traefik", default=TRAEFIK, show_default=True, metavar="URL", help="Where clients come in.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(config: str | None, label: str, traefik: str, *, as_json: bool) -> None:
    """Find what is wrong with this machine and its service, with evidence and remedy.

    Exits 0 when all is well, 1 for warnings, 2 when something is wrong.

    Example: ccproxy-supervisor doctor
    """
    import time

    from ccproxy_supervisor.deploy import doctor as deploy_doctor
    from ccproxy_supervisor.deploy import launchd
    from ccproxy_supervisor.deploy.program import run

    home = home_of(config)
    places = {"agent": launchd.place(daemon=False), "daemon": launchd.place(daemon=True)}
    scene = deploy_doctor.Scene(
        home, label, sys.executable, traefik.rstrip("/"), os.environ, run, _fetch, places, time.time
    )
    findings, last = [], ""
    for topic, finding in deploy_doctor.examine(scene):
        findings.append((topic, finding))
        if not as_json:
            _print(finding, topic if topic != last else "")
        last = topic
    if as_json:
        say_json([{"topic": topic} | finding.document() for topic, finding in findings])
    sys.exit(deploy_doctor.exit_code(finding for _, finding in findings))


def _print(finding: Finding, heading: str) -> None:
    mark, colour = MARKS[finding.level]
    if heading:
        say("\n", (heading, {"bold": True}))
    evidence = f": {finding.evidence}" if finding.evidence else ""
    say(" ", (mark, {"fg": colour}), f" {finding.title}", (evidence, {"dim": True}))
    if finding.remedy:
        say(f"   → {finding.remedy}")


def _owner(user: str | None) -> Owner:
    """Who a LaunchDaemon runs as: who was named, else who called sudo."""
    from ccproxy_supervisor.deploy import service

    try:
        return service.owner(user or os.environ.get("SUDO_USER") or os.environ.get("USER", ""))
    except service.ServiceError as error:
        fail(str(error))


def _home(config: str | None, owner: Owner | None) -> Home:
    """The home as *owner* would find it: sudo may or may not have changed HOME."""
    if owner is None or config or os.environ.get("CCPROXY_HOME"):
        return locate(config, os.environ)
    return locate(None, {"HOME": owner.home})


def _home_of_service(file: Path, config: str | None, *, daemon: bool, purge: bool) -> Home:
    """The home that the property list *file* names; without one, the home that the command line means."""
    from ccproxy_supervisor.deploy.launchd import config_of, installed, same

    meant, served = _home(config, _owner(None) if daemon else None), None
    try:
        served = config_of(installed(file) or {})
    except ValueError as error:
        if purge:
            fail(str(error))
    if served is None:
        return meant
    if purge and (config or os.environ.get("CCPROXY_HOME")) and not same(meant.settings_file, served):
        fail(f"cannot delete {meant.folder}: {file} runs from {served.parent}; name that one, or another --label")
    return Home(served)


def _person_of_service(file: Path) -> Owner:
    """Who the service of the property list *file* runs as, whose paths it names; without one, who called sudo."""
    from ccproxy_supervisor.deploy.launchd import installed

    named = None
    with suppress(ValueError):
        named = (installed(file) or {}).get("UserName")
    return _owner(str(named) if named else None)


def _confirm(folder: Path, yes: bool) -> None:
    if not yes:
        say(f"{folder} holds: {', '.join(sorted(entry.name for entry in folder.iterdir()))}")
        confirm(f"Delete {folder} with all that?", abort=True)


def _job(home: Home, label: str, owner: Owner | None, socket: bool) -> Job:
    from ccproxy_supervisor.core.faults import ConfigError
    from ccproxy_supervisor.core.settings import parse
    from ccproxy_supervisor.deploy import launchd

    try:
        with acting_as(owner):
            settings = parse(home.read(home.settings_file), str(home.settings_file))
    except ConfigError as error:
        fail(str(error))
    return launchd.Job(label, sys.executable, home.settings_file, settings, owner, socket)


def _refuse_to_purge_the_living(home: Home) -> None:
    try:
        ask(home, "GET", "/status")
    except NotRunning:
        return
    fail(f"cannot delete {home.folder}: a supervisor still runs from it; end it first: ccproxy-supervisor stop")


def _need_launchctl() -> None:
    if shutil.which("launchctl") is None:
        fail("cannot manage a service: this system has no launchctl. Services are for macOS; elsewhere: run", 2)


def _hands() -> Hands:
    from ccproxy_supervisor.deploy import service
    from ccproxy_supervisor.deploy.program import run

    return service.Hands(run, say, health)


def health(settings: Settings) -> str | None:
    """The daemon's status word; `None` if nothing answers, empty if something else does."""
    import json

    from ccproxy_supervisor.core.answer import Answer

    host = f"[{settings.admin.host}]" if ":" in settings.admin.host else settings.admin.host
    outcome = _fetch(f"http://{host}:{settings.admin.port}/health", 3.0)
    if not isinstance(outcome, Answer):
        return None
    try:
        return str(json.loads(outcome.body)["status"])
    except (ValueError, LookupError, TypeError):
        return ""


def _fetch(url: str, timeout: float) -> Answer | Failure:
    from functools import partial

    import anyio

    from ccproxy_supervisor.edge.fetch import fetch

    return anyio.run(partial(fetch, url, timeout=timeout))
