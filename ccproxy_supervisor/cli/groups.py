"""How groups of commands show themselves."""

from __future__ import annotations

import click


class Whole(click.Group):
    """A group whose list of commands says of each what it does in a whole sentence: click cuts it at 45 characters."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in commands if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
