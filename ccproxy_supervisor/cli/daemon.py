"""Start the daemon, and give it orders."""

from __future__ import annotations

import os
import sys

import click

from ccproxy_supervisor.cli.common import config_option, home_of, order
from ccproxy_supervisor.cli.output import say
from ccproxy_supervisor.edge.ground import make_room


@click.command()
@config_option
@click.option("--verbose/--quiet", default=None, help="Show what happens on standard error; default: on a terminal.")
@click.option("--prove", is_flag=True, hidden=True)
def run(config: str | None, *, verbose: bool | None, prove: bool) -> None:
    """Run the daemon in the foreground: what launchd starts.

    Example: ccproxy-supervisor run --config ~/ccproxy/supervisor.yaml
    """
    from ccproxy_supervisor.edge.renewal import STARTED_AS, guarded

    _stay(STARTED_AS)
    make_room()
    home = home_of(config)

    def begin() -> int:
        from ccproxy_supervisor import app

        return app.prove(home) if prove else app.run(home, verbose=sys.stderr.isatty() if verbose is None else verbose)

    sys.exit(begin() if prove else guarded(home.run, begin))


def _stay(variable: str) -> None:
    """Run from the folder that the way to our interpreter leads to now: what is imported later must be of the same version,
    wherever that link leads by then. The process stays the same."""
    os.environ.setdefault(variable, sys.executable)  # a renewal follows the link anew
    folder, name = os.path.split(sys.executable)
    real = os.path.join(os.path.realpath(folder), name)
    if real != sys.executable and os.access(real, os.X_OK):
        os.execv(real, [real, *sys.orig_argv[1:]])  # noqa: S606


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
def renew(config: str | None) -> None:
    """Begin the supervisor itself anew, with its program and settings as they are on disk; the workers serve on.

    So its own update, a new Python, changed admin.* and a changed proxy.port are taken up without losing a request.

    Example: ccproxy-supervisor renew
    """
    from ccproxy_supervisor.cli.renewal import begin_anew

    begin_anew(home_of(config))


@click.command()
@config_option
def stop(config: str | None) -> None:
    """Drain the workers and stop the daemon. Under launchd it comes back; `uninstall` is for good.

    Example: ccproxy-supervisor stop
    """
    say(order(config, "/stop", timeout=10.0)["result"])


@click.command()
@config_option
def rotate(config: str | None) -> None:
    """Rotate the logs now.

    Example: ccproxy-supervisor rotate
    """
    say(order(config, "/rotate", timeout=10.0)["result"])


def _report(report: dict[str, str]) -> None:
    say(f"{report['result']}: {report['detail']}")
    sys.exit(0 if report["result"] in ("applied", "rolled", "unchanged") else 1)
