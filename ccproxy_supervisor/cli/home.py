"""Make a home."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ccproxy_supervisor.cli.common import home_of
from ccproxy_supervisor.cli.output import fail, say

if TYPE_CHECKING:
    from ccproxy_supervisor.edge.home import Home


@click.command()
@click.argument("home", required=False, metavar="[HOME]")
@click.option("--no-litellm", is_flag=True, help="Only the folders and the configuration.")
def init(home: str | None, *, no_litellm: bool) -> None:
    """Make a home folder with the default configuration, and install LiteLLM into it. What is there is kept.

    Example: ccproxy-supervisor init ~/ccproxy
    """
    from ccproxy_supervisor.cli.litellm import maintenance
    from ccproxy_supervisor.core.settings import parse
    from ccproxy_supervisor.deploy.home import prepare, question
    from ccproxy_supervisor.edge.home import SETTINGS

    place = home_of(os.path.join(home, SETTINGS) if home else None)
    if faults := [fault for fault in place.replaceable() if fault.source != "."]:  # what is ours is closed below
        fail("\n".join(f"cannot make a home there: {fault}" for fault in faults), 78)
    try:
        prepare(place.folder, say)
    except OSError as error:
        fail(f"cannot make {place.folder}: {error.strerror}: {error.filename}")
    _open_front_door(place)
    if not no_litellm:
        with maintenance(place) as opened:
            settings = parse(place.read(place.settings_file))
            opened.first(settings.proxy.python, settings.upgrade.denied, settings.proxy.packages)
            plan = place.read_plan(os.environ, sys.executable)
        say(f"Start it with: ccproxy-supervisor run --config {place.settings_file}")
        say(f"and then try:  {question(place.folder, plan)}")


def _open_front_door(place: Home) -> None:
    """Write Traefik's routes, which let nobody in yet: a Traefik that finds no file does not look for it again."""
    from ccproxy_supervisor.core.faults import ConfigError
    from ccproxy_supervisor.core.settings import parse
    from ccproxy_supervisor.deploy import tokens, traefik

    try:
        ledger = tokens.load(traefik.ledger_file(place))
        if not traefik.output(place, ledger).exists():
            settings = parse(place.read(place.settings_file), place.shown(place.settings_file))
            say(f"wrote {traefik.publish(place, settings, ledger)}")
    except (ConfigError, tokens.TokenError) as error:
        say(f"Traefik's routes are not written: {error}", err=True)
