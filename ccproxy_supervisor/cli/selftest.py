"""Show that what the daemon takes for granted is so on this machine."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from ccproxy_supervisor.cli.common import config_option
from ccproxy_supervisor.cli.mac import health
from ccproxy_supervisor.cli.output import fail, say, say_json
from ccproxy_supervisor.edge.home import Home, locate

FILE = "ccproxy-selftest.txt"


@click.command()
@config_option
@click.option("--list", "only_list", is_flag=True, help="Only say what each step is about.")
@click.option("--output", metavar="FILE", help=f"Where the report goes.  [default: {FILE} in the home, else here]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def selftest(config: str | None, output: str | None, *, only_list: bool, as_json: bool) -> None:
    """Show on this machine, inside launchd too, that what the daemon takes for granted is so. Takes up to five minutes.

    Makes a job and a service of its own, in a folder of its own, and removes both; no root. The report names no person, machine
    or folder. On a Mac it also decides whether `proxy.preload: auto` may fork workers. Exits 1 if something is not so.

    Example: ccproxy-supervisor selftest
    """
    from ccproxy_supervisor.selftest.steps import STEPS

    if only_list:
        for step in STEPS:
            say(f"{step.name}: {step.assumes}{' (only on macOS)' if step.mac else ''}")
        return
    if os.geteuid() == 0 and sys.platform == "darwin":
        fail("cannot run the self-test as root: run it as the person whose service it is about")
    from dataclasses import replace

    from ccproxy_supervisor.deploy.program import run
    from ccproxy_supervisor.deploy.service import Hands
    from ccproxy_supervisor.selftest import report as reports
    from ccproxy_supervisor.selftest import run as whole

    home = locate(config, os.environ)
    hands = Hands(run, lambda line: say(reports.scrubbed(line, whole.private()), err=True), health, time.sleep)
    found = whole.selftest(hands, _litellm(home))
    found = replace(found, conclusions=(whole.settle_forks(home, found),))
    text = reports.scrubbed(reports.text(found), whole.private())
    file = Path(output) if output else (home.folder if home.folder.is_dir() else Path()) / FILE
    with suppress(OSError):
        file.write_text(text)
        say(f"the report is in {file}", err=True)
    if as_json:
        say_json(json.loads(reports.scrubbed(json.dumps(found.document(), ensure_ascii=False), whole.private())))
    else:
        say(text, nl=False)
    sys.exit(1 if found.failed else 0)


def _litellm(home: Home) -> str | None:
    """The interpreter of the home's LiteLLM, if one is there."""
    from ccproxy_supervisor.core.faults import ConfigError
    from ccproxy_supervisor.core.settings import Settings, parse

    settings = Settings()
    with suppress(ConfigError):
        settings = parse(home.read(home.settings_file))
    python = home.path(settings.proxy.python)
    return str(python) if os.access(python, os.X_OK) else None
