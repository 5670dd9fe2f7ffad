"""Show how the daemon is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from ccproxy_supervisor.cli.common import NOT_RUNNING, NotRunning, ask, config_option, home_of
from ccproxy_supervisor.cli.output import fail, say, say_json, show
from ccproxy_supervisor.core.printable import printable
from ccproxy_supervisor.edge.home import Home

EVERY = 1.0  # seconds
PATIENCE = 5.0


@click.command()
@config_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print the daemon's own document: the same keys in every version."
)
@click.option("--watch", is_flag=True, help="Go on until ^C. Without a terminal: print whenever something changed.")
def status(config: str | None, *, as_json: bool, watch: bool) -> None:
    """Show the service, its workers, models and Ollama.

    Exits 0 when it is healthy, 1 when it is not, 3 when no daemon runs.

    Example: ccproxy-supervisor status --watch

    Example: ccproxy-supervisor status --json | jq .workers
    """
    home = home_of(config)
    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for programs; ask again and again instead")
    if watch:
        try:
            _watch_on_terminal(home) if sys.stdout.isatty() else _watch(home)
        except KeyboardInterrupt:
            return
    try:
        document = ask(home, "GET", "/status", timeout=PATIENCE)
    except NotRunning:
        fail(f"not running: no daemon answers for {home.folder}", NOT_RUNNING)
    if as_json:
        say_json(document)
    else:
        _show(document)
    sys.exit(0 if document["status"] == "healthy" else 1)


def _show(document: dict[str, Any]) -> None:
    from ccproxy_supervisor.view.sheet import sheet

    show(sheet(document, time.time()))


def _answers(home: Home) -> Iterator[dict[str, Any] | str]:
    """Ask again and again; what is not a document is why there is none."""
    while True:
        try:
            yield ask(home, "GET", "/status", timeout=PATIENCE)
        except NotRunning:
            yield f"not running: no daemon answers for {home.folder}; waiting for one"
        except click.ClickException as error:
            yield error.message
        time.sleep(EVERY)


def _watch(home: Home) -> None:
    from ccproxy_supervisor.view.plain import plain
    from ccproxy_supervisor.view.sheet import gist, sheet

    last: Any = None
    for answer in _answers(home):
        if gist(answer) != gist(last):
            shown = answer if isinstance(answer, str) else plain(sheet(answer, time.time()))
            say(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n{shown}\n")
        last = answer


def _watch_on_terminal(home: Home) -> None:
    from rich.console import Console
    from rich.live import Live

    from ccproxy_supervisor.view.sheet import sheet
    from ccproxy_supervisor.view.table import watched

    console = Console(highlight=False)
    last: dict[str, Any] | None = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for answer in _answers(home):
            last = last if isinstance(answer, str) else answer
            trouble = printable(answer) if isinstance(answer, str) else ""
            known = sheet(last, time.time()) if last else None
            live.update(watched(known, trouble, time.strftime("%H:%M:%S"), console.width), refresh=True)
