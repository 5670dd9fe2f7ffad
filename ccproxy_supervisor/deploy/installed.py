"""By what this supervisor was installed, and so by what a newer one is had: each tool keeps its own account of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

NAME = "ccproxy-supervisor"
RENEW = f"{NAME} renew"  # by which a daemon that runs takes it up


@dataclass(frozen=True, slots=True)
class Tool:
    """*command* is what a person types for a newer version, and for the daemon to go on as it."""

    name: str
    command: str


def tool(prefix: Path) -> Tool:
    """Tell who made the environment at *prefix*, by what they leave there."""
    real = prefix.resolve()
    if "Cellar" in real.parts:
        return Tool("Homebrew", f"brew upgrade {NAME} && {RENEW}")
    if (real / "uv-receipt.toml").exists():
        return Tool("uv tool", f"uv tool upgrade {NAME} && {RENEW}")
    if (real / "pipx_metadata.json").exists():
        return Tool("pipx", f"pipx upgrade {NAME} && {RENEW}")
    if sources := next(_checkouts(real), None):
        return Tool("make, from sources", f"cd {shlex.quote(str(sources))} && git pull && make renew")
    words = [str(prefix / "bin/python"), "-m", "pip", "install", "--upgrade", NAME]
    return Tool("pip", f"{shlex.join(words)} && {RENEW}")


def _checkouts(prefix: Path) -> Iterator[Path]:
    """The sources that an environment was made of: beside `.venvs`, where `make` builds, or those that it only refers to."""
    if prefix.parent.name == ".venvs" and (prefix.parent.parent / "Makefile").exists():
        yield prefix.parent.parent
    with suppress(PackageNotFoundError, ValueError, LookupError, TypeError):
        said = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
        if said["dir_info"].get("editable"):
            yield Path(said["url"].removeprefix("file://"))
