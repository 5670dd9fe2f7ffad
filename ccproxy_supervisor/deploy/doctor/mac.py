"""What decides whether an unattended Mac comes back by itself: login, FileVault, sleep, power."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, ok, skip, warn

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
    encrypted = "FileVault is On" in vault.out
    person = login.out.strip() if login.status == 0 else ""
    daemon = scene.places["daemon"].file(scene.label).exists()
    if encrypted:
        remedy = "turn FileVault off, or have somebody unlock it; for a planned restart: sudo fdesetup authrestart"
        yield warn("after a power loss FileVault waits for a person before anything starts", vault.out.strip(), remedy)
    if daemon:
        yield ok("the service needs no login", "it is a LaunchDaemon")
    elif person:
        yield ok(f"{person} is logged in automatically, and the service with him", f"{LOGIN} autoLoginUser")
    else:
        remedy = "System Settings > Users & Groups > Automatically log in, or: sudo ccproxy-supervisor install --daemon"
        yield warn("after a restart the service waits for a login", "no automatic login is set", remedy)


def power(scene: Scene) -> Iterator[Finding]:
    ran = scene.program("pmset", "-g")
    if ran is None:
        yield skip("sleep and power settings")
        return
    values = {name: int(value) for name, value in re.findall(r"^\s*([a-z]+)\s+(\d+)", ran.out, re.MULTILINE)}
    if "sleep" not in values:
        yield skip("sleep and power settings", "pmset does not say")
        return
    if values["sleep"]:
        yield fail(
            "this Mac goes to sleep, and the service with it", f"sleep {values['sleep']} (min)", "sudo pmset -a sleep 0"
        )
    else:
        yield ok("this Mac does not go to sleep", "sleep 0")
    if "autorestart" not in values:  # a portable has a battery instead
        return
    if values["autorestart"]:
        yield ok("this Mac starts by itself when power returns", "autorestart 1")
    else:
        yield warn("after a power loss this Mac stays off", "autorestart 0", "sudo pmset -a autorestart 1")
