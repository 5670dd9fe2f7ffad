"""Tell what went through."""

from __future__ import annotations

import sqlite3
import time

import click

from ccproxy_supervisor.cli.common import config_option, home_of
from ccproxy_supervisor.cli.output import fail, say, say_json, show


@click.command()
@config_option
@click.option("--since", default="1d", show_default=True, metavar="DURATION", help="How far back, up to 400d.")
@click.option(
    "--by", type=click.Choice(["model", "client"]), default="model", show_default=True, help="A row for each."
)
@click.option("--json", "as_json", is_flag=True, help="Print numbers for programs.")
def usage(config: str | None, since: str, by: str, *, as_json: bool) -> None:
    """Tell requests, errors, tokens and times of each model or client. Works without the daemon.

    What is older than a day is counted by the hour. A client is who has a token of Traefik's; `direct` came without.

    Example: ccproxy-supervisor usage --since 7d --by client
    """
    from ccproxy_supervisor.core import traffic
    from ccproxy_supervisor.core.status import stamp
    from ccproxy_supervisor.core.units import seconds
    from ccproxy_supervisor.edge.traffic import usage as counted
    from ccproxy_supervisor.view.traffic import usage as grid

    try:
        begun = time.time() - seconds(since)
    except ValueError as error:
        raise click.BadParameter(f"{since!r} {error}", param_hint="--since") from None
    run = home_of(config).run
    try:
        book = counted(run, begun)
    except (sqlite3.Error, OSError) as error:
        fail(f"cannot read {run / 'usage.db'}: {error}")
    rows = [{"name": name, **traffic.period(numbers)} for name, numbers in sorted(traffic.by(book, by).items())]
    if as_json:
        say_json({"since": stamp(begun), "by": by, "rows": rows})
    elif rows:
        show((grid(by, rows),))
    else:
        say(f"Nothing was asked for in the last {since}.")
