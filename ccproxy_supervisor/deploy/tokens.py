"""Who may use the proxy from outside: names and bearer tokens in one private file."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ccproxy_supervisor.system.files import put

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
SECRET = re.compile(r"[A-Za-z0-9_-]{32,256}")


class TokenError(Exception):
    """The tokens cannot be read, changed or written; the message says why and what was kept."""


@dataclass(frozen=True, slots=True)
class Token:
    """One client's credential; *created* is ISO 8601 in UTC."""

    name: str
    created: str
    secret: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Enough to recognise the token by, nothing to use it with."""
        return hashlib.sha256(self.secret.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Ledger:
    """All tokens, and where the rules made of them were last written (*output*, for these *entry_points*)."""

    tokens: tuple[Token, ...] = ()
    output: str | None = None
    entry_points: tuple[str, ...] = ("web",)

    def get(self, name: str) -> Token | None:
        return next((token for token in self.tokens if token.name == name), None)

    def directed(self, output: str | None, entry_points: tuple[str, ...]) -> Ledger:
        """Remember where the rules go from now on; what is not said stays."""
        return replace(self, output=output or self.output, entry_points=entry_points or self.entry_points)

    def add(self, name: str, created: str, secret: str | None = None) -> Ledger:
        """Add a token under a new name; without *secret*, 256 random bits."""
        if not NAME.fullmatch(name):
            raise TokenError(
                f"cannot add token {name!r}: a name is 1 to 32 of a-z, 0-9, _ and -, a letter or digit first"
            )
        if self.get(name):
            raise TokenError(f"cannot add token {name}: the name is taken; revoke it first")
        if secret is not None and not SECRET.fullmatch(secret):
            raise TokenError(f"cannot add token {name}: a token is 32 to 256 of A-Z, a-z, 0-9, _ and -")
        if any(token.secret == secret for token in self.tokens):
            raise TokenError(f"cannot add token {name}: another name has this very token")
        return replace(self, tokens=(*self.tokens, Token(name, created, secret or secrets.token_urlsafe(32))))

    def revoke(self, name: str) -> Ledger:
        if not self.get(name):
            known = ", ".join(token.name for token in self.tokens) or "none"
            raise TokenError(f"cannot revoke token {name!r}: no such name; known: {known}")
        return replace(self, tokens=tuple(token for token in self.tokens if token.name != name))


def load(path: Path) -> Ledger:
    """Read the ledger; a missing file is an empty one, a file that others can read is refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Ledger()
    except OSError as error:
        raise TokenError(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(descriptor, encoding="utf-8") as file:
        info = os.fstat(descriptor)
        if stat.S_IMODE(info.st_mode) & 0o077 or info.st_uid != os.geteuid():
            raise TokenError(f"cannot use {path}: others may read it; make it yours and `chmod 600` it")
        try:
            return _ledger(json.load(file))
        except (ValueError, TypeError, KeyError) as error:
            raise TokenError(
                f"cannot read {path}: {error.__class__.__name__} in its contents; restore or delete it"
            ) from None


def _ledger(value: Any) -> Ledger:
    tokens = tuple(Token(str(t["name"]), str(t["created"]), str(t["secret"])) for t in value["tokens"])
    if not all(NAME.fullmatch(token.name) and SECRET.fullmatch(token.secret) for token in tokens):
        raise ValueError
    return Ledger(tokens, value["output"], tuple(value["entry_points"]))


def save(path: Path, ledger: Ledger) -> None:
    put_text(path, json.dumps(asdict(ledger), indent=1) + "\n")


def put_text(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace *path* for good; raises `TokenError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        put(path, text.encode(), mode, durable=True)
    except OSError as error:
        raise TokenError(f"cannot write {path}: {error.strerror}; it is as it was") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one command at a time change the ledger."""
    lock = path.with_suffix(".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TokenError(f"cannot lock {lock}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
