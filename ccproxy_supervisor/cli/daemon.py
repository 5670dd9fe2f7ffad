"""Start the daemon, and give it orders."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from ccproxy_supervisor.cli.common import config_option, home_of, order
from ccproxy_supervisor.edge.home import Home


@click.command()
@config_option
@click.option("--verbose/--quiet", default=None, help="Show what happens on standard error; default: on a terminal.")
def run(config: str | None, *, verbose: bool | None) -> None:
    """Run the daemon in the foreground: what launchd starts.

    Example: ccproxy-supervisor run --config ~/ccproxy/supervisor.yaml
    """
    from ccproxy_supervisor.app import run as run_daemon

    home = home_of(config)
    if verbose is None:
        verbose = sys.stderr.isatty()
    if verbose:
        _invite(home)
    sys.exit(run_daemon(home, show=_show if verbose else None))


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _invite(home: Home) -> None:
    """Say how to try it. The line works at once: the public socket holds the request until a worker serves."""
    from ccproxy_supervisor.core.faults import ConfigError

    with suppress(ConfigError):  # the daemon is about to say it
        plan = home.read_plan(os.environ)
        proxy, model = plan.settings.proxy, plan.litellm.models[0].name
        key = "" if proxy.auth == "open" else f' -H "Authorization: Bearer $(cat {home.path("master.key")})"'
        body = f'{{"model": "{model}", "max_tokens": 99, "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
        url = f"http://{proxy.host}:{proxy.port}"
        _show(f"Try it, in another terminal:\n\n  curl -N {url}/v1/messages{key} \\")
        _show(f"    -H 'Content-Type: application/json' -d '{body}'\n")
        _show("/v1/chat/completions takes the same. Stop with ^C.\n")


@click.command()
@config_option
def reload(config: str | None) -> None:
    """Read the settings again; workers are replaced, one by one and without losing a request, if they must be.

    Example: ccproxy-supervisor reload
    """
    _report(order(config, "/reload"))


@click.command()
@config_option
def restart(config: str | None) -> None:
    """Replace every worker, one by one, without losing a request.

    Example: ccproxy-supervisor restart
    """
    _report(order(config, "/restart"))


@click.command()
@config_option
def stop(config: str | None) -> None:
    """Drain the workers and stop the daemon. Under launchd it comes back; `uninstall` is for good.

    Example: ccproxy-supervisor stop
    """
    click.echo(order(config, "/stop", timeout=10.0)["result"])


@click.command()
@config_option
def rotate(config: str | None) -> None:
    """Rotate the logs now.

    Example: ccproxy-supervisor rotate
    """
    click.echo(order(config, "/rotate", timeout=10.0)["result"])


def _report(report: dict[str, str]) -> None:
    click.echo(f"{report['result']}: {report['detail']}")
    sys.exit(0 if report["result"] in ("applied", "rolled", "unchanged") else 1)
