"""Installing, replacing and removing the service: launchd asked step by step, and believed only when it shows."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ccproxy_supervisor.core.settings import Settings
from ccproxy_supervisor.deploy.launchctl import BUSY, Launchctl, Loaded
from ccproxy_supervisor.deploy.launchd import Job, Owner, Place, exit_timeout, render
from ccproxy_supervisor.deploy.program import Run
from ccproxy_supervisor.edge import last_words

PAUSE = 0.25  # seconds between two looks
PATIENCE = 15.0  # seconds beyond what a step may take by itself
LINES, TAIL = 8, 1 << 14

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


def steps(job: Job, place: Place) -> Iterator[str]:
    """What `install` would do, a line each."""
    target, file = place.target(job.label), place.file(job.label)
    yield f"write {file} (0644):"
    yield from (f"    {line}" for line in render(job).decode().splitlines())
    yield f"launchctl enable {target}"
    yield f"launchctl bootout {target}, if it is loaded, and wait until it is gone"
    yield f"launchctl bootstrap {place.domain} {file}"
    yield f"wait until http://{job.settings.admin.host}:{job.settings.admin.port}/health says that it serves"


def install(job: Job, place: Place, hands: Hands) -> None:
    """Make launchd run *job* as it is now, whatever ran before; return once it serves."""
    control = Launchctl(hands.run, place.domain, job.label)
    make_folder(job.logs, job.owner)
    write_plist(place.file(job.label), render(job))
    control.enable()
    stop(control, exit_timeout(job.settings), hands)
    if hands.health(job.settings) is not None:
        where = f"{job.settings.admin.host}:{job.settings.admin.port}"
        raise ServiceError(
            f"cannot start: another supervisor answers on {where}; end it first: ccproxy-supervisor stop"
        )
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
        raise ServiceError("\n".join([f"{control.target} does not serve: {_why(status, loaded)}", *evidence(job)]))
    hands.say(f"{control.target} serves on {job.settings.proxy.host}:{job.settings.proxy.port} ({status})")


def _why(status: str | None, loaded: Loaded | None) -> str:
    if loaded is None:
        return "launchd does not know it any more"
    if loaded.fell:
        reason = EXITS.get(loaded.last_exit or 0)
        how = f"signal {loaded.last_signal}" if loaded.last_signal else f"exit code {loaded.last_exit}"
        return f"it ended with {how}{f' ({reason})' if reason else ''}; launchd goes on trying"
    return "it answers nothing" if status is None else f"it says {status!r}; it goes on trying"


def evidence(job: Job) -> Iterator[str]:
    """The last lines of the two files in which a daemon that does not come up leaves its reasons."""
    for name in ("supervisor.log", last_words.NAME):
        lines = last_lines(job.logs / name)
        if lines:
            yield f"last lines of {job.logs / name}:"
            yield from (f"  | {line}" for line in lines)


def last_lines(file: Path, count: int = LINES) -> list[str]:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
            lines = stream.read(TAIL).decode(errors="replace").splitlines()
    except OSError:
        return []
    return [readable(line) for line in lines[-count:]]


def readable(line: str) -> str:
    """A JSON log line as a person reads it; anything else as it is."""
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict):
        return line
    first = [str(fields.pop(key)) for key in ("time", "timestamp", "level", "event") if key in fields]
    return " ".join([*first, *(f"{key}={value}" for key, value in fields.items())])


def make_folder(folder: Path, owner: Owner | None) -> None:
    """Create *folder* and what leads to it, 0700, as *owner*'s: root must not own what the daemon writes to."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=0o700)
        if owner is not None:
            os.chown(missing, owner.uid, owner.gid)


def write_plist(file: Path, content: bytes) -> None:
    """Replace *file* in one step, 0644: launchd refuses what a group could write."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.tmp")
    try:
        partial.write_bytes(content)
        partial.chmod(0o644)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ServiceError(f"cannot write {file}: {error.strerror}") from error


def purge(home: Path) -> None:
    """Delete the home folder with everything in it; raises `ServiceError` for one that is more than that."""
    person = Path.home().resolve()
    if home.is_symlink() or home.resolve() == person or home.resolve() in person.parents:
        raise ServiceError(f"cannot delete {home}: it is not a folder of its own")
    shutil.rmtree(home)
