"""Try whom the daemon would tell."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from functools import partial

import click

from ccproxy_supervisor.cli.common import config_option, home_of
from ccproxy_supervisor.cli.groups import Whole
from ccproxy_supervisor.cli.output import fail, say


@click.group(cls=Whole)
def notify() -> None:
    """Have people told of incidents: `notify:` in supervisor.yaml says whom.

    Example: ccproxy-supervisor notify test
    """


@notify.command()
@config_option
def test(config: str | None) -> None:
    """Tell every target now, and ping the heartbeat, whatever the hour; no daemon is needed.

    Example: ccproxy-supervisor notify test
    """
    from ccproxy_supervisor.core.faults import ConfigError
    from ccproxy_supervisor.core.notices import Notice
    from ccproxy_supervisor.edge.home.reading import read_plan
    from ccproxy_supervisor.edge.notify import deliver, post

    try:
        contacts = read_plan(home_of(config), os.environ).contacts
    except ConfigError as error:
        fail(str(error), 78)
    notice, host = Notice("test", 0, "this is a test", ("Incidents will be told like this.",)), socket.gethostname()
    told = {
        f"{n}. {each.kind}": partial(deliver, each, notice, host) for n, each in enumerate(contacts.targets, start=1)
    }
    if contacts.heartbeat:
        told["heartbeat"] = partial(post, contacts.heartbeat, {}, b"", "GET")
    if not told:
        fail("cannot tell anybody: notify.targets is empty, and heartbeat.url is not set")
    failed = [name for name, tell in told.items() if not _tried(name, tell)]
    sys.exit(bool(failed))


def _tried(name: str, tell: Callable[[], None]) -> bool:
    from ccproxy_supervisor.edge.notify import UndeliveredError

    try:
        tell()
    except UndeliveredError as error:
        say(f"{name}: {error}")
        return False
    say(f"{name}: told")
    return True
