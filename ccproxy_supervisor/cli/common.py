"""What commands share: where the home is, and how to talk to its daemon."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ccproxy_supervisor.cli.output import fail
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.edge.home import Home, locate
from ccproxy_supervisor.edge.ownership import control_of, owned, owner
from ccproxy_supervisor.edge.person import become, owner_of

NOT_RUNNING = 3
LARGEST = 16 << 20  # bytes of an answer; what is longer is none of the daemon's
RESTORED = 5.0  # seconds in which a daemon that works makes anew what somebody removes of its run folder
ROLL = 3600.0  # seconds; a roll over many slots with long drains takes its time, and is seen to take it

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """Add `--config FILE`, handed on as *config*."""
    text = "supervisor.yaml of the home; else $CCPROXY_HOME/supervisor.yaml, else ~/ccproxy/supervisor.yaml."
    return click.option("--config", metavar="FILE", help=text)(command)


def home_of(config: str | None) -> Home:
    """Find the home. Root acts as its owner from here on: its paths are its owner's to choose."""
    home = locate(config, os.environ)
    if os.geteuid() == 0:
        become(owner_of(home.folder))
    return home


class NotRunning(Exception):  # noqa: N818 - a fact, not an error
    """No daemon owns the home, and none answers on its control socket."""


class Unreachable(click.ClickException):
    """A daemon owns the home, but its control socket is not there."""


class Connection(http.client.HTTPConnection):
    """HTTP over the control socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def glimpse(home: Home, section: str, key: str, default: str) -> Path:
    """Find a path among the settings without checking them: a broken file must not hide a running daemon, and
    checking takes longer than all the rest of a command."""
    import yaml

    try:
        value = yaml.safe_load(home.read(home.settings_file))[section][key]
    except (ConfigError, yaml.YAMLError, LookupError, TypeError, RecursionError):
        value = default
    return home.path(value if isinstance(value, str) else default)


def control_socket(home: Home) -> Path:
    said = control_of(home.run)
    return home.path(said) if said else glimpse(home, "admin", "socket", "run/control.sock")


def ask(
    home: Home, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float = 10.0
) -> dict[str, Any]:
    """Ask the daemon of *home*; raises `NotRunning`, and `click.ClickException` with its own words for a refusal."""
    deadline = time.monotonic() + (RESTORED if method == "POST" else 0.0)
    while True:
        try:
            return _ask(home, method, path, body, timeout)
        except Unreachable:  # an order waits for it: the daemon restores it, or is just starting
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.2)


def _ask(home: Home, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
    connection = Connection(control_socket(home), timeout)
    try:
        said = None if method == "GET" else json.dumps(body or {})
        connection.request(method, path, said, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read(LARGEST))
    except (FileNotFoundError, ConnectionRefusedError):
        raise _silent(home) from None
    except PermissionError:
        raise click.ClickException(f"cannot talk to the daemon of {home.folder}: it belongs to another user") from None
    except (ConnectionError, http.client.IncompleteRead, ValueError):  # all its own answers are JSON
        raise click.ClickException(f"the daemon of {home.folder} stopped before it had an answer") from None
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"cannot talk to the daemon of {home.folder}: {error or 'no answer'}") from None
    finally:
        connection.close()
    if response.status >= 400 and "error" in answer:
        raise click.ClickException(str(answer["error"]))
    return answer


def _silent(home: Home) -> Exception:
    """Say why nobody answers on the control socket."""
    if not owned(home.run):
        return NotRunning()
    pid = owner(home.run)
    who = f"running (pid {pid})" if pid else "running"
    return Unreachable(
        f"{who}, but its control socket {control_socket(home)} is gone; it restores it within {RESTORED:g} s"
    )


def order(
    config: str | None, path: str, body: dict[str, Any] | None = None, *, timeout: float = ROLL
) -> dict[str, Any]:
    """`ask` for a command: says so and exits 3 when no daemon runs."""
    home = home_of(config)
    try:
        return ask(home, "POST", path, body, timeout=timeout)
    except NotRunning:
        fail(f"cannot reach the daemon of {home.folder}: it is not running", NOT_RUNNING)
