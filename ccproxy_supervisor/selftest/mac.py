"""What only macOS has: local network privacy, background items, FileVault."""

from __future__ import annotations

import errno
import os
import re
import socket

from ccproxy_supervisor.deploy.launchd import LABEL
from ccproxy_supervisor.deploy.program import MISSING, Run, run
from ccproxy_supervisor.selftest.step import Result, fails, holds, noted, unknown

PORTS = (53, 80, 443)
PATIENCE = 2.0  # seconds
DENIED = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM)
LOGIN = "/Library/Preferences/com.apple.loginwindow"


def lan(run: Run = run) -> Result:
    """Local Network Privacy lets a denied program find no route to its neighbours; the router is the one everybody has."""
    found = re.search(r"gateway: ([\d.]+)", run("route", "-n", "get", "default").out)
    if found is None:
        return unknown("this machine has no router to ask")
    outcomes = [_reached(found[1], port) for port in PORTS]
    if "reached" in outcomes:
        return holds("the local network is reached")
    if "denied" in outcomes:
        return fails("no route to the local network: allow it in System Settings > Privacy & Security > Local Network")
    return unknown("the router answers nothing")


def _reached(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return "reached"
    except OSError as error:
        return "denied" if error.errno in DENIED else "silent"
    return "reached"


def vault(run: Run = run) -> Result:
    said = run("fdesetup", "status").out
    state = "off" if "FileVault is Off" in said else "on" if "FileVault is On" in said else "in a state nobody knows"
    login = "set" if run("defaults", "read", LOGIN, "autoLoginUser").status == 0 else "not set"
    return noted(f"FileVault is {state}, automatic login is {login}")


def background(run: Run = run) -> Result:
    """Background Task Management disables a service when its person forbids it under Login Items."""
    ran = run("launchctl", "print-disabled", f"gui/{os.getuid()}")
    if ran.status in (MISSING, 1) or not ran.out:
        return unknown("launchd does not list what is disabled")
    if re.search(rf'"{re.escape(LABEL)}" => (disabled|true)', ran.out):
        return fails("the service is disabled: System Settings > General > Login Items & Extensions")
    return holds("the service is not disabled")
