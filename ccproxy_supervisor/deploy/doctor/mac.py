"""What decides whether an unattended Mac comes back by itself: login, FileVault, sleep, power."""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterator

from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, ok, skip, warn
from ccproxy_supervisor.deploy.program import Ran

LOGIN = "/Library/Preferences/com.apple.loginwindow"


def system(scene: Scene) -> Iterator[Finding]:
    ran = scene.program("sw_vers", "-productVersion")
    yield skip("the macOS version") if ran is None else ok(f"macOS {ran.out.strip() or 'of unknown version'}")


def restart(scene: Scene) -> Iterator[Finding]:
    """Whether anything starts before a person comes."""
    vault, login = scene.program("fdesetup", "status"), scene.program("defaults", "read", LOGIN, "autoLoginUser")
    if vault is None or login is None:
        yield skip("FileVault and automatic login")
        return
    yield from _vault(vault)
    person = login.out.strip() if login.status == 0 else ""
    ours = (
        known(lambda: pwd.getpwuid(scene.home.folder.stat().st_uid).pw_name, ""),
        str(scene.environ.get("USER", "")),
    )
    remedy = "System Settings > Users & Groups > Automatically log in, or: sudo ccproxy-supervisor install --daemon"
    if scene.places["daemon"].file(scene.label).exists():
        yield ok("the service needs no login", "it is a LaunchDaemon")
    elif person and person not in ours:
        evidence = f"{LOGIN} autoLoginUser is {person}, the home is {ours[0] or 'of an unknown user'}'s"
        yield warn("after a restart somebody else is logged in, and the service waits", evidence, remedy)
    elif person:
        yield ok(f"{person} is logged in automatically, and the service with him", f"{LOGIN} autoLoginUser")
    else:
        yield warn("after a restart the service waits for a login", "no automatic login is set", remedy)


def _vault(ran: Ran) -> Iterator[Finding]:
    """Newer versions of macOS turn it on while they are set up: only a clear word counts as off."""
    if "FileVault is Off" in ran.out and "Encryption in progress" not in ran.out:
        return
    title = "after a power loss FileVault waits for a person before anything starts"
    if "FileVault is" not in ran.out and "in progress" not in ran.out:
        title = "whether FileVault waits for a person after a power loss is not known"
    remedy = "turn FileVault off, or have somebody unlock it; for a planned restart: sudo fdesetup authrestart"
    yield warn(title, ran.said, remedy)


def power(scene: Scene) -> Iterator[Finding]:
    ran = scene.program("pmset", "-g")
    if ran is None:
        yield skip("sleep and power settings")
        return
    values = {name: int(value) for name, value in re.findall(r"^\s*([A-Za-z]+)\s+(\d+)", ran.out, re.MULTILINE)}
    if values.get("SleepDisabled"):  # `pmset disablesleep 1` wins over every timer
        values["sleep"] = 0
    if "sleep" not in values:
        yield skip("sleep and power settings", "pmset does not say")
        return
    if values["sleep"]:
        yield fail(
            "this Mac goes to sleep, and the service with it", f"sleep {values['sleep']} (min)", "sudo pmset -a sleep 0"
        )
    else:
        evidence = "SleepDisabled 1" if values.get("SleepDisabled") else "sleep 0"
        yield ok("this Mac does not go to sleep", evidence)
    if "autorestart" not in values:  # a portable has a battery instead
        return
    if values["autorestart"]:
        yield ok("this Mac starts by itself when power returns", "autorestart 1")
    else:
        yield warn("after a power loss this Mac stays off", "autorestart 0", "sudo pmset -a autorestart 1")
