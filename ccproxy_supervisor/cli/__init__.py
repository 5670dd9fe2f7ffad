"""The command line: one group, its commands loaded when called."""

from __future__ import annotations

import click


@click.group()
def main() -> None:
    """Keep LiteLLM serving."""
