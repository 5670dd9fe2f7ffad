"""Change the version of LiteLLM."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ccproxy_supervisor.cli.common import NotRunning, ask, config_option, home_of
from ccproxy_supervisor.cli.output import confirm, fail, say
from ccproxy_supervisor.core.printable import printable

UNPACKING = "unpacking"  # what is said while the files of all packages are put in place

if TYPE_CHECKING:
    from ccproxy_supervisor.deploy.maintenance import Maintenance
    from ccproxy_supervisor.edge.home import Home


@click.command()
@click.option("--to", metavar="VERSION", help="That version; else the one this supervisor was tested with.")
@click.option("--latest", is_flag=True, help="The newest release that can be installed.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", "-y", is_flag=True, help="Also a version with known vulnerabilities.")
@click.option("--repair", is_flag=True, help="Build the version in use again, with the Python at hand.")
@config_option
def upgrade(config: str | None, to: str | None, *, latest: bool, dry_run: bool, yes: bool, repair: bool) -> None:
    """Install another LiteLLM beside the one in use, try it, and go over to it without losing a request.

    Example: ccproxy-supervisor upgrade --latest --dry-run
    """
    from packaging.version import InvalidVersion, Version

    from ccproxy_supervisor.edge.upgrades import pinned

    if sum((bool(to), latest, repair)) > 1:
        raise click.UsageError("--to, --latest and --repair exclude each other")
    if repair and dry_run:
        raise click.UsageError("--repair builds and switches; doctor shows what it would mend")
    try:
        wanted = None if latest else str(Version(to or pinned()))
    except InvalidVersion:
        raise click.BadParameter(f"{to} is not a version", param_hint="--to") from None
    with maintenance(home_of(config), yes=yes) as opened:
        opened.repair() if repair else opened.upgrade(wanted, dry_run=dry_run)


@click.command()
@config_option
def rollback(config: str | None) -> None:
    """Go back to the LiteLLM that was in use before, without losing a request.

    Example: ccproxy-supervisor rollback
    """
    with maintenance(home_of(config)) as opened:
        opened.rollback()


@contextmanager
def maintenance(home: Home, *, yes: bool = False) -> Iterator[Maintenance]:
    """Hand out the place where LiteLLM is changed, joined to the daemon and to the person before us."""
    from ccproxy_supervisor.core.faults import ConfigError
    from ccproxy_supervisor.deploy.errors import InstallError
    from ccproxy_supervisor.deploy.maintenance import Maintenance

    progress = Bar() if sys.stdout.isatty() else Lines()
    try:
        yield Maintenance(
            home, partial(_daemon, home), progress.say, progress.show, lambda told: yes or _confirmed(told)
        )
    except (ConfigError, InstallError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot change LiteLLM: {error.strerror or error}: {error.filename}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        progress.end()


def _daemon(home: Home, method: str, path: str, body: dict[str, Any], timeout: float) -> dict[str, Any] | None:
    from ccproxy_supervisor.deploy.errors import InstallError

    try:
        return ask(home, method, path, body, timeout=timeout)
    except NotRunning:
        return None
    except click.ClickException as error:
        raise InstallError(error.message) from None


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and confirm(f"{question} Install it all the same?")


class Lines:
    """Progress where nobody watches: a line for each quarter of the way."""

    def __init__(self) -> None:
        self._told: set[tuple[int, bool]] = set()

    def say(self, text: str) -> None:
        say(text)

    def show(self, done: int, total: int, what: str) -> None:
        step = (4 * done // max(total, 1), what == UNPACKING)
        if step not in self._told:
            self._told.add(step)
            say(f"  {done} of {total} packages: {what}")

    def end(self) -> None:
        pass


class Bar:
    """Progress on a terminal; the bar is there only while packages come in, and gives way to what is said."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        done = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
        self._bar = Progress(TextColumn("  packages"), *done, transient=True)
        self._task = self._bar.add_task("")

    def say(self, text: str) -> None:
        self._bar.stop()
        say(text)

    def show(self, done: int, total: int, what: str) -> None:
        self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description=printable(what))

    def end(self) -> None:
        self._bar.stop()
