"""The front door: what Traefik is told, and whom it lets in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ccproxy_supervisor.cli.common import config_option, home_of
from ccproxy_supervisor.cli.groups import Whole
from ccproxy_supervisor.cli.output import fail, say, say_json

if TYPE_CHECKING:
    from ccproxy_supervisor.core.settings import Settings
    from ccproxy_supervisor.deploy.tokens import Ledger
    from ccproxy_supervisor.edge.home import Home


@click.command()
@config_option
@click.option(
    "--output", metavar="FILE", help="Where to write; remembered. `-` prints.  [default: traefik/dynamic.yaml]"
)
@click.option(
    "--entry-point", "entry_points", multiple=True, help="Traefik's entry points; remembered.  [default: web]"
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the file is not what it should be.")
@click.option(
    "--prometheus-targets", "targets", metavar="FILE", help="Also write what Prometheus should scrape (file_sd)."
)
def traefik(
    config: str | None, output: str | None, entry_points: tuple[str, ...], targets: str | None, *, check: bool
) -> None:
    """Write Traefik's dynamic configuration for these settings and tokens.

    Traefik's file provider takes it up by itself. The file holds the tokens: it is readable for you alone.

    Example: ccproxy-supervisor traefik --output ~/traefik/dynamic.yaml
    """
    from ccproxy_supervisor.deploy import fleet, tokens
    from ccproxy_supervisor.deploy import traefik as front

    path = str(Path(output).absolute()) if output not in (None, "-") else None
    with _plainly():
        home, settings = _read(config)
        if check:
            _compare(home, settings, tokens.load(_ledger(home)).directed(path, entry_points))
            return
        if targets:
            tokens.put_text(Path(targets).absolute(), fleet.targets(settings), 0o644)
        if output == "-":
            say(front.current(home, settings, tokens.load(_ledger(home)).directed(None, entry_points)), nl=False)
            return
        ledger, written = _change(home, settings, lambda ledger: ledger.directed(path, entry_points))
    say(f"wrote {written}; tokens: {len(ledger.tokens)}, hosts: {len(settings.fleet) or 1}", err=True)
    if not ledger.tokens:
        say("nobody may pass yet: ccproxy-supervisor token add NAME", err=True)


def _compare(home: Home, settings: Settings, ledger: Ledger) -> None:
    from ccproxy_supervisor.deploy import traefik as front

    path = front.output(home, ledger)
    if front.stale(home, settings, ledger):
        fail(f"{path} is out of date; run: ccproxy-supervisor traefik")
    say(f"{path} is up to date; tokens: {len(ledger.tokens)}")


@click.group(cls=Whole)
def token() -> None:
    """Say who may use the proxy through Traefik.

    Example: ccproxy-supervisor token add alice
    """


@token.command()
@config_option
@click.argument("name")
@click.option("--stdin", is_flag=True, help="Take the token from standard input: several hosts may share one.")
def add(config: str | None, name: str, *, stdin: bool) -> None:
    """Make a token for NAME and print it.

    Example: ccproxy-supervisor token add alice
    """
    given = sys.stdin.readline().strip() if stdin else None
    with _plainly():
        home, settings = _read(config)
        ledger, path = _change(home, settings, lambda ledger: ledger.add(name, _now(), given))
    say(f"{name} may pass; {path} is rewritten. Keep the token.", err=True)
    if not stdin:
        say(ledger.tokens[-1].secret)


@token.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print names, dates and fingerprints as JSON.")
def list_tokens(config: str | None, *, as_json: bool) -> None:
    """List names, dates and fingerprints: the first 12 digits of each token's SHA-256.

    Example: ccproxy-supervisor token list
    """
    from ccproxy_supervisor.deploy.tokens import load

    with _plainly():
        tokens = load(_ledger(home_of(config))).tokens
    if as_json:
        told = [{"name": t.name, "created": t.created, "fingerprint": t.fingerprint} for t in tokens]
        say_json(told)
        return
    for t in tokens:
        say(f"{t.name:<32}  {t.created}  {t.fingerprint}")


@token.command()
@config_option
@click.argument("name")
def revoke(config: str | None, name: str) -> None:
    """Shut NAME out. Requests it has already begun are finished.

    Example: ccproxy-supervisor token revoke alice
    """
    with _plainly():
        home, settings = _read(config)
        _, path = _change(home, settings, lambda ledger: ledger.revoke(name))
    say(f"{name} may not pass any more; {path} is rewritten", err=True)


@click.command()
@config_option
@click.argument("program", type=click.Choice(["claude", "codex", "openai", "opencode"]))
@click.argument("name")
@click.option("--url", help="Where clients reach Traefik.  [default: as traefik/traefik.yaml of the home says]")
@click.option("--model", "models", multiple=True, help="The model to ask for.  [default: those of LiteLLM's config]")
def connect(config: str | None, program: str, name: str, url: str | None, models: tuple[str, ...]) -> None:
    """Print what to paste so that PROGRAM talks to this proxy as NAME: claude, codex, openai (its SDKs) or opencode.

    Shows NAME's token, and makes one if NAME has none. Nothing is written for the program.

    Example: ccproxy-supervisor connect claude alice
    """
    from ccproxy_supervisor.deploy.connect import PROGRAMS, Gateway, door_of
    from ccproxy_supervisor.deploy.tokens import load

    with _plainly():
        home, settings = _read(config)
        known = models or _models(home)
        ledger = load(_ledger(home))
        if not ledger.get(name):
            ledger, path = _change(home, settings, lambda ledger: ledger.add(name, _now()))
            say(f"{name} may pass now; {path} is rewritten", err=True)
        token = ledger.get(name)
        assert token is not None, "it was there, or was added"
        where = (url or door_of(home, ledger.entry_points)).rstrip("/")
        say(PROGRAMS[program](Gateway(where, token.secret, known)))


def _models(home: Home) -> tuple[str, ...]:
    """What clients may ask for by name, in the order of LiteLLM's config."""
    plan = home.read_plan(os.environ, sys.executable)
    return tuple(dict.fromkeys(model.name for model in plan.litellm.models))


def _now() -> str:
    from datetime import UTC, datetime

    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _ledger(home: Home) -> Path:
    from ccproxy_supervisor.deploy.traefik import ledger_file

    return ledger_file(home)


def _read(config: str | None) -> tuple[Home, Settings]:
    from ccproxy_supervisor.core.settings import parse

    home = home_of(config)
    return home, parse(home.read(home.settings_file), home.shown(home.settings_file))


def _change(home: Home, settings: Settings, change: Callable[[Ledger], Ledger]) -> tuple[Ledger, Path]:
    """Change the ledger and the rules made of it: the rules first, so that a failure leaves a command to repeat."""
    from ccproxy_supervisor.deploy import tokens
    from ccproxy_supervisor.deploy.traefik import publish

    with tokens.locked(_ledger(home)):
        ledger = change(tokens.load(_ledger(home)))
        path = publish(home, settings, ledger)
        tokens.save(_ledger(home), ledger)
    return ledger, path


@contextmanager
def _plainly() -> Iterator[None]:
    from ccproxy_supervisor.core.faults import ConfigError
    from ccproxy_supervisor.deploy.tokens import TokenError

    try:
        yield
    except ConfigError as error:
        fail(str(error), 78)
    except TokenError as error:
        fail(str(error))
