"""Tell what went wrong lately."""

from __future__ import annotations

import click

from ccproxy_supervisor.cli.common import config_option, home_of
from ccproxy_supervisor.cli.output import say, say_json


@click.command()
@config_option
@click.option("--last", default=3, show_default=True, type=click.IntRange(min=1), help="How many incidents.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they are.")
def why(config: str | None, last: int, *, as_json: bool) -> None:
    """Tell the last unplanned endings, of workers and of the supervisor, in plain sentences, the newest last. Works without the daemon.

    Example: ccproxy-supervisor why --last 1
    """
    from datetime import datetime

    from ccproxy_supervisor.core.incident import tell
    from ccproxy_supervisor.edge.incidents import read

    folder = home_of(config).run / "incidents"
    records = read(folder, last)
    if as_json:
        say_json(records)
        return
    if not records:
        say(f"Nothing ended without being asked to: there is no record in {folder}.")
    for record in records:
        at = datetime.fromisoformat(record["at"]).astimezone()
        say((f"{at:%Y-%m-%d %H:%M:%S}", {"bold": True}))
        say("\n".join(f"  {line}" for line in tell(record)))
