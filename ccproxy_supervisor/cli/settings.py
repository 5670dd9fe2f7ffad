"""Look at the configuration without touching anything."""

from __future__ import annotations

import os
import pathlib
import sys

import click

from ccproxy_supervisor.cli.common import config_option, glimpse, home_of
from ccproxy_supervisor.cli.output import fail, say, say_json


@click.command()
@config_option
@click.option("--deep", is_flag=True, help="Also ask LiteLLM's own validation; takes about ten seconds.")
def check(config: str | None, *, deep: bool) -> None:
    """Check settings, LiteLLM config, interpreter and permissions, as a start or a reload would.

    Exits 0 if the daemon could use them, 78 if not.

    Example: ccproxy-supervisor check --config ~/ccproxy/supervisor.yaml
    """
    from ccproxy_supervisor.core.checks import told
    from ccproxy_supervisor.core.faults import ConfigError
    from ccproxy_supervisor.deploy import launchd
    from ccproxy_supervisor.edge.home import program, weaknesses

    home = home_of(config)
    try:
        plan = home.read_plan(os.environ)
    except ConfigError as error:
        fail(str(error), 78)
    for warning in (*plan.warnings, *home.check_permissions(plan.settings)):
        say(f"warning: {warning}")
    for place, why in weaknesses(program(sys.executable)):
        say(f"warning: {place}, of this program, {why}")
    places = (launchd.place(daemon=False), launchd.place(daemon=True))
    for short in launchd.short_exit_timeouts(home.settings_file, plan.settings, places):
        say(f"warning: {short}")
    if plan.litellm.dropped:
        lost = "\n".join(str(fault) for _, fault in plan.litellm.dropped)
        fail(f"{lost}\nLiteLLM would start without these models", 78)
    if deep:
        from ccproxy_supervisor.deploy.validate import validate

        if wrong := validate(plan):
            fail(wrong, 78)
    models = ", ".join(dict.fromkeys(model.name for model in plan.litellm.models)) or "none"
    say(f"{home.settings_file} is in order: LiteLLM {plan.birth.litellm_version or 'unknown'}, models {models}")
    for line in told(plan.litellm.models, plan.settings.models):
        say(line)


@click.command()
def schema() -> None:
    """Print the JSON Schema of supervisor.yaml, for editors.

    Example: ccproxy-supervisor schema > ~/ccproxy/supervisor.schema.json
    """
    from ccproxy_supervisor.core.settings import schema as settings_schema

    say_json(settings_schema())


@click.command()
@config_option
def version(config: str | None) -> None:
    """Print the versions of the supervisor, Python and the home's LiteLLM, and how a newer supervisor is had.

    Example: ccproxy-supervisor version
    """
    import platform

    from ccproxy_supervisor import __version__
    from ccproxy_supervisor.deploy import installed
    from ccproxy_supervisor.edge.home import litellm_version

    say(f"ccproxy-supervisor {__version__}")
    say(f"python {platform.python_version()}")
    home = home_of(config)
    found = litellm_version(str(glimpse(home, "proxy", "python", "venv/bin/python")))
    say(f"litellm {found or 'not installed'} ({home.folder})")
    tool = installed.tool(pathlib.Path(sys.prefix))
    say(f"installed by {tool.name}; a newer one: {tool.command}")
