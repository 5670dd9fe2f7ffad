"""The one door through which commands print: nothing that others have written reaches a terminal as it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ccproxy_supervisor.core.printable import json_text, printable

if TYPE_CHECKING:
    from ccproxy_supervisor.view.sheet import Sheet

Part = str | tuple[str, dict[str, Any]]  # text, and how `click.style` shall show it


def say(*parts: Part, err: bool = False, nl: bool = True) -> None:
    shown = (printable(part) if isinstance(part, str) else click.style(printable(part[0]), **part[1]) for part in parts)
    click.echo("".join(shown), err=err, nl=nl)


def say_json(value: Any) -> None:
    click.echo(json_text(value))


def show(sheet: Sheet) -> None:
    """Print tables: in colours, and as wide as the terminal, where there is one."""
    if not sys.stdout.isatty():
        from ccproxy_supervisor.view.plain import plain

        say(plain(sheet))
        return
    from rich.console import Console

    from ccproxy_supervisor.view.table import table

    console = Console(highlight=False)
    console.print(table(sheet, console.width))


def hand_out(data: bytes) -> None:
    """Give away a file of ours, byte for byte."""
    click.echo(data, nl=False)


def confirm(question: str, *, abort: bool = False) -> bool:
    return click.confirm(printable(question), abort=abort)


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what went wrong on standard error, and exit."""
    say(message, err=True)
    sys.exit(code)
