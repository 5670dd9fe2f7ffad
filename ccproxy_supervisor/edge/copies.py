"""LiteLLM's config as it was checked, for workers to read: an edit that was never reloaded must not reach a worker that
is restarted."""

from __future__ import annotations

import os
from contextlib import suppress
from glob import escape
from pathlib import Path

from ccproxy_supervisor.core.plan import Birth


def keep_config(birth: Birth) -> str:
    """Return a copy of *birth*'s config, beside the original, whose includes and handlers it names."""
    original = Path(birth.config)
    copy = original.with_name(f".{original.stem}.{birth.config_digest[:16]}{original.suffix}")
    draft, text = copy.with_name(f"{copy.name}.{os.getpid()}.new"), birth.config_text.encode()
    try:
        if not _holds(copy, text):
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(text)
            draft.rename(copy)
    except OSError:
        return birth.config  # a full disk: better the file as it is than no worker
    return str(copy)


def _holds(copy: Path, text: bytes) -> bool:
    """Tell whether *copy* is what its name says: after a power loss it may be empty."""
    with suppress(OSError):
        return copy.read_bytes() == text
    return False


def forget_configs(birth: Birth) -> None:
    """Remove the copies of other configurations than *birth*'s."""
    original, kept = Path(birth.config), keep_config(birth)
    for copy in original.parent.glob(f".{escape(original.stem)}.{'[0-9a-f]' * 16}{escape(original.suffix)}*"):
        if str(copy) != kept:
            with suppress(OSError):  # it only takes room
                copy.unlink()
