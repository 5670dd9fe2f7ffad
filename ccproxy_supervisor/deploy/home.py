"""A new home: its folders and the default configuration. What is there is kept."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from ccproxy_supervisor.deploy.litellm import Say

FILES = ("supervisor.yaml", "config.yaml")
FOLDERS = ("", "logs", "run", "venvs")


def prepare(home: Path, say: Say) -> None:
    """Make what is missing in *home*, for nobody but us."""
    for name in FOLDERS:
        folder = home / name
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            say(f"made {folder}")
        elif folder.stat().st_mode & 0o077 and folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)
            say(f"closed {folder} to other users")
    for name in FILES:
        if not os.path.lexists(home / name):
            _write(home / name, (files("ccproxy_supervisor") / "data" / "config" / name).read_bytes())
            say(f"wrote {home / name}")


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(data)
    draft.rename(path)
