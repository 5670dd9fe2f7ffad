"""Installing, replacing and removing the service: launchd asked step by step, and believed only when it shows."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ccproxy_supervisor.core.settings import Settings
from ccproxy_supervisor.deploy.last_lines import last_lines
from ccproxy_supervisor.deploy.launchctl import BUSY, NOBODY, Launchctl, Loaded
from ccproxy_supervisor.deploy.launchd import (
    Job,
    Place,
    command,
    exit_timeout,
    out_of_reach,
    render,
    services_of,
)
from ccproxy_supervisor.deploy.program import Run
from ccproxy_supervisor.edge.person import Owner, acting_as
from ccproxy_supervisor.system.files import put

PAUSE = 0.25  # seconds between two looks
PATIENCE = 15.0  # seconds beyond what a step may take by itself

EXITS = {
    1: "a fault in the program",
    2: "wrong command line: the property list and this version do not fit together",
    75: "another supervisor owns this home",
    78: "unusable configuration, or launchd found no program, folder or log file where the property list says",
}


class ServiceError(Exception):
    """The service is not as asked; the text says why, and what to do where that is known."""


@dataclass(frozen=True)
class Hands:
    """What installing reaches the machine by. *health* gives the daemon's status word, `None` without an answer."""

    run: Run
    say: Callable[[str], None]
    health: Callable[[Settings], str | None]
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic

    def until(self, fact: Callable[[], bool], seconds: float) -> bool:
        """Look again and again for at most *seconds*; whether it came true."""
        deadline = self.now() + seconds
        while not fact():
            if self.now() >= deadline:
                return False
            self.sleep(PAUSE)
        return True


def owner(name: str) -> Owner:
    """Look up who a LaunchDaemon shall run as; raises `ServiceError`."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ServiceError(f"cannot run the service as {name!r}: there is no such user") from None
    return Owner(name, found.pw_uid, found.pw_gid, found.pw_dir)


def refuse_misuse(job: Job) -> None:
    """Raise `ServiceError` for what would only fail later, and worse."""
    root = os.geteuid() == 0
    if job.owner is None:
        if root and os.environ.get("SUDO_USER"):
            raise ServiceError("cannot install a LaunchAgent with sudo: run it as yourself, or add --daemon")
        return
    if not root:
        raise ServiceError("cannot install a LaunchDaemon without root: run it with sudo")
    if job.owner.uid == 0:
        raise ServiceError("cannot run the service as root: name a person with --user")
    if job.home.stat().st_uid != job.owner.uid:
        raise ServiceError(f"cannot run the service as {job.owner.name}: {job.home} belongs to somebody else")


def refuse_rivals(job: Job, place: Place, places: Iterable[Place]) -> None:
    """Raise `ServiceError` if another service is installed for the home: only one of the two could ever run."""
    with acting_as(job.owner):
        services = list(services_of(job.config, places))
    for each, file, _ in services:
        if file != place.file(job.label):
            remedy = command("uninstall", file.stem, each.domain == "system")
            raise ServiceError(f"cannot install {job.label}: {file} is of the same home; remove it first: {remedy}")


def refuse_unusable(job: Job, hands: Hands) -> None:
    """Raise `ServiceError` if the daemon could not use its configuration; asked as its user, who must own the files."""
    user = [] if job.owner is None else ["sudo", "-H", "-u", job.owner.name]
    ran = hands.run(*user, *job.program, "check", "--config", str(job.config), timeout=60.0)
    if ran.status != 0:
        raise ServiceError(
            f"cannot install {job.label}, nothing was changed; ccproxy-supervisor check says:\n{ran.said}"
        )


def refuse_another(job: Job, hands: Hands) -> None:
    """Raise `ServiceError` if a supervisor that is not the service answers where the service would."""
    if hands.health(job.settings) is not None:
        where = f"{job.settings.admin.host}:{job.settings.admin.port}"
        raise ServiceError(
            f"cannot start: another supervisor answers on {where}; end it first: ccproxy-supervisor stop"
        )


def steps(job: Job, place: Place) -> Iterator[str]:
    """What `install` would do, a line each."""
    target, file = place.target(job.label), place.file(job.label)
    yield "check the configuration, and that no other supervisor answers"
    yield f"write {file} (0644):"
    yield from (f"    {line}" for line in render(job).decode().splitlines())
    yield f"launchctl enable {target}"
    yield f"launchctl bootout {target}, if it is loaded, and wait until it is gone"
    yield f"launchctl bootstrap {place.domain} {file}"
    yield f"wait until http://{job.settings.admin.host}:{job.settings.admin.port}/health says that it serves"


def install(job: Job, place: Place, hands: Hands) -> None:
    """Make launchd run *job* as it is now, whatever ran before; return once it serves."""
    control = Launchctl(hands.run, place.domain, job.label)
    refuse_unusable(job, hands)
    if control.loaded() is None:
        refuse_another(job, hands)
        if control.nobody_there():
            raise ServiceError(f"cannot start {control.target}: {NOBODY}")
    for path in (job.home, Path(job.python).parent):
        if why := out_of_reach(path, Path(job.owner.home) if job.owner else Path.home()):
            hands.say(f"warning: {path} is {why}; if it does not start, move it")
    with acting_as(job.owner):  # root must not own what the daemon writes to, nor make it where a link leads
        make_folder(job.logs)
    write_plist(place.file(job.label), render(job))
    control.enable()
    stop(control, exit_timeout(job.settings), hands)
    refuse_another(job, hands)
    start(control, place.file(job.label), hands)
    await_serving(control, job, hands)


def uninstall(label: str, place: Place, hands: Hands) -> bool:
    """Stop the service and remove its property list; whether there was anything to do."""
    stopped = stop(Launchctl(hands.run, place.domain, label), 60.0, hands)
    file = place.file(label)
    present = file.exists()
    file.unlink(missing_ok=True)
    return stopped or present


def stop(control: Launchctl, longest: float, hands: Hands) -> bool:
    """Boot the service out and wait until it is gone; *longest* seconds if launchd does not say. False: not loaded."""
    loaded = control.loaded()
    if loaded is None:
        return False
    patience = (loaded.exit_timeout or longest) + PATIENCE
    hands.say(f"stopping {control.target} (at most {patience:.0f} s)")
    complaint = control.bootout(patience)
    if complaint:
        raise ServiceError(f"cannot stop {control.target}: {complaint}")
    if not hands.until(lambda: control.loaded() is None, patience):
        raise ServiceError(f"cannot stop {control.target}: launchd still shows it after {patience:.0f} s")
    return True


def start(control: Launchctl, file: Path, hands: Hands) -> None:
    """Bootstrap, again while launchd still has its hands full with the old one."""
    hands.say(f"starting {control.target}")
    last = (0, "")

    def bootstrapped() -> bool:
        nonlocal last
        last = control.bootstrap(file)
        return last[0] not in BUSY

    hands.until(bootstrapped, PATIENCE)
    if last[0] != 0:
        raise ServiceError(f"cannot start {control.target}: launchctl bootstrap said {last[1]}")


def await_serving(control: Launchctl, job: Job, hands: Hands) -> None:
    longest, status, loaded = job.settings.proxy.start_timeout + PATIENCE, None, control.loaded()
    hands.say(f"waiting until it serves (at most {longest:.0f} s)")

    def decided() -> bool:
        nonlocal status, loaded
        status, loaded = hands.health(job.settings), control.loaded()
        return status in ("healthy", "degraded") or loaded is None or loaded.fell

    hands.until(decided, longest)
    if status not in ("healthy", "degraded"):
        with acting_as(job.owner):
            words = [f"{control.target} does not serve: {_why(status, loaded)}", *last_lines(job.logs)]
        raise ServiceError("\n".join(words))
    hands.say(f"{control.target} serves on {job.settings.proxy.host}:{job.settings.proxy.port} ({status})")


def _why(status: str | None, loaded: Loaded | None) -> str:
    if loaded is None:
        return "launchd does not know it any more"
    if loaded.fell:
        return f"it ended with {ending(loaded)}; launchd goes on trying"
    return "it answers nothing" if status is None else f"it says {status!r}; it goes on trying"


def ending(loaded: Loaded) -> str | None:
    """How the last process of a service ended, if not well."""
    if loaded.last_signal:
        return f"signal {loaded.last_signal}"
    if not loaded.last_exit:
        return None
    reason = EXITS.get(loaded.last_exit)
    return f"exit code {loaded.last_exit}{f' ({reason})' if reason else ''}"


def make_folder(folder: Path) -> None:
    """Create *folder* and what leads to it, 0700; raises `ServiceError`."""
    try:
        for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
            missing.mkdir(mode=0o700)
    except OSError as error:
        raise ServiceError(f"cannot make {error.filename}: {error.strerror}; nothing was changed") from None


def write_plist(file: Path, content: bytes) -> None:
    """Replace *file* in one step, 0644: launchd refuses what a group could write."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        put(file, content, 0o644)
    except OSError as error:
        raise ServiceError(f"cannot write {file}: {error.strerror}") from error
