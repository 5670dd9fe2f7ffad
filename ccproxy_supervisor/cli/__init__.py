"""The command line: one group, each command's module loaded when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from ccproxy_supervisor import __version__
from ccproxy_supervisor.cli.groups import Whole
from ccproxy_supervisor.core.printable import printable
from ccproxy_supervisor.edge.ground import stand

#: Command -> module of this package that has it, under the command's name, or that name with `_command` appended.
COMMANDS = {
    "run": "daemon",
    "check": "settings",
    "status": "status",
    "reload": "daemon",
    "restart": "daemon",
    "renew": "daemon",
    "stop": "daemon",
    "rotate": "daemon",
    "logs": "logs",
    "why": "why",
    "usage": "usage",
    "doctor": "mac",
    "selftest": "selftest",
    "init": "home",
    "install": "mac",
    "uninstall": "mac",
    "upgrade": "litellm",
    "rollback": "litellm",
    "traefik": "gateway",
    "token": "gateway",
    "connect": "gateway",
    "files": "files",
    "notify": "notify",
    "schema": "settings",
    "version": "settings",
}


class Commands(Whole):
    """A group that imports a command only to run it or to show its help: `status` must answer at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"ccproxy_supervisor.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_command")
        return command

    def main(self, *words: Any, **more: Any) -> Any:
        stand()
        return super().main(*words, **more)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:  # its words may be the daemon's, and those a file's
            error.message = printable(error.message)  # type: ignore[misc]
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ccproxy-supervisor", message="%(prog)s %(version)s")
def main() -> None:
    """Keep LiteLLM serving: one supervisor, probed workers, no lost requests."""
