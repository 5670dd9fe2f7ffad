"""Hand out the files that come with the supervisor: for Traefik, Prometheus, Grafana, launchd."""

from __future__ import annotations

import os
from importlib.resources import files as resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from ccproxy_supervisor.cli.output import fail, hand_out, say

SHIPPED = ("config", "launchd")


def shipped() -> dict[str, Traversable]:
    """Return every file that is handed out, by the name it goes by: `traefik/traefik.yaml`."""
    data = resources("ccproxy_supervisor") / "data"
    found: dict[str, Traversable] = {}
    for folder in SHIPPED:
        pending = [("" if folder == "config" else f"{folder}/", data / folder)]
        while pending:
            prefix, place = pending.pop()
            for each in place.iterdir():
                if each.name == "__pycache__":
                    continue  # whoever imported a file that is meant for LiteLLM
                if each.is_dir():
                    pending.append((f"{prefix}{each.name}/", each))
                else:
                    found[prefix + each.name] = each
    return dict(sorted(found.items()))


@click.command()
@click.argument("name", required=False)
@click.option("--to", metavar="FOLDER", help="Copy it there, with all that is under it; what is there already is kept.")
def files(name: str | None, to: str | None) -> None:
    """Show the files for Traefik, Prometheus and others: list, print or copy.

    NAME is a file, or with --to also a folder of the list.

    Example: ccproxy-supervisor files prometheus --to ~/ccproxy
    """
    every = shipped()
    chosen = [each for each in every if name is None or each == name or each.startswith(name.rstrip("/") + "/")]
    if not chosen:
        fail(f"cannot find {name}: the list is: ccproxy-supervisor files", 2)
    if to is not None:
        copy({each: every[each] for each in chosen}, Path(to).expanduser())
    elif name in every:
        hand_out(every[name].read_bytes())
    else:
        say("\n".join(chosen))


def copy(chosen: dict[str, Traversable], folder: Path) -> None:
    for name, source in chosen.items():
        target = folder / name
        if os.path.lexists(target):
            say(f"kept {target}: it is there already")
            continue
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(source.read_bytes())
        except OSError as error:
            fail(f"cannot write {target}: {error.strerror}")
        say(f"wrote {target}")
