"""Order a renewal and wait for the supervisor that follows."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from ccproxy_supervisor.cli.common import NOT_RUNNING, ROLL, NotRunning, ask
from ccproxy_supervisor.cli.output import fail, say
from ccproxy_supervisor.edge.home import Home

ABSENT = 60.0  # seconds that nobody may answer
LOOK = 0.05  # seconds between two looks


def begin_anew(home: Home) -> None:
    """Say how it went; exits 1 if it was refused, or nobody followed."""
    try:
        before = ask(home, "GET", "/status")
        if "supervisor" not in before:
            fail(f"cannot renew version {before['version']}: it does not know how; restart the service instead")
        answer = ask(home, "POST", "/renew", timeout=ROLL)
    except NotRunning:
        fail(f"cannot reach the daemon of {home.folder}: it is not running", NOT_RUNNING)
    if answer["result"] != "renewing":
        say(f"{answer['result']}: {answer['detail']}")
        sys.exit(1)
    began = time.monotonic()
    after = _wait(home, _lives(before))
    told = after["supervisor"]
    if told["undone"] or told["renewals"] == before["supervisor"]["renewals"]:
        fail(f"went back to version {after['version']}: {told['undone'] or 'the new supervisor was killed'}", 1)
    versions = f"version {before['version']} -> {after['version']}, " if before["version"] != after["version"] else ""
    workers = "1 worker" if told["adopted"] == 1 else f"{told['adopted']} workers"
    took = told["adoption_seconds"] if told["adoption_seconds"] is not None else time.monotonic() - began
    say(f"renewed: {versions}adopted {workers} in {took:.1f} s; pid {after['pid']}")


def _lives(status: dict[str, Any]) -> int:
    return int(status["supervisor"]["renewals"] + status["supervisor"]["restarts"])


def _wait(home: Home, lives: int) -> dict[str, Any]:
    """Return the status of the supervisor that follows; the old one answers until the roll that it is at has ended."""
    heard = time.monotonic()
    while True:
        try:
            status = ask(home, "GET", "/status")
            heard = time.monotonic()
            if _lives(status) > lives and status["supervisor"]["ready"]:
                return status
        except (NotRunning, click.ClickException):
            if time.monotonic() > heard + ABSENT:
                fail(
                    f"nobody answers for {ABSENT:g} s; workers serve on for a while: see logs/launchd.log and: doctor",
                    1,
                )
        time.sleep(LOOK)
