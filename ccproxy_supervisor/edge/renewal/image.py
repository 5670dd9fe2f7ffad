"""The same process begins anew: another image of the program under the same pid, so that launchd sees no end of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, MutableMapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import NoReturn

from ccproxy_supervisor.core.images import HANDED
from ccproxy_supervisor.edge.renewal.signals import block
from ccproxy_supervisor.launcher.orphan import PROTOCOL

STARTED_AS = "CCPROXY_STARTED_AS"  # the interpreter as we were started with it, before links were followed
PATIENCE = 60.0  # seconds for a new image to prove itself


class RenewalError(Exception):
    """The new image would not come up, or the old one cannot leave."""


@dataclass(frozen=True)
class Handed:
    """What the last image says: who asked for it, its version, when it left (wall time), whether the service manager holds the
    public socket; and the descriptors of that socket, of the home's locks, and of signals that nobody has heeded. *undone* says
    why the image between did not come up, which was of version *undone_version*: then this is the old one again."""

    by: str = ""
    version: str = ""
    left: float = 0.0
    activated: bool = False
    listener: int = -1
    locks: tuple[int, ...] = ()
    signals: int = -1
    undone: str = ""
    undone_version: str = ""

    @property
    def fds(self) -> list[int]:
        return [fd for fd in (self.listener, *self.locks, self.signals) if fd >= 0]

    @classmethod
    def of(cls, said: str) -> Handed:
        """Another version may say more, or less."""
        known = {each.name for each in fields(cls)}
        handed = cls(**{name: value for name, value in json.loads(said).items() if name in known})
        return replace(handed, locks=tuple(handed.locks))


@dataclass(frozen=True)
class Entry:
    """How this process was started, for doing so again: *words* follow the way to the program anew, *back* leads to the
    program that runs now."""

    words: tuple[str, ...]
    back: tuple[str, ...]
    folder: str

    @classmethod
    def of_this(cls, environ: MutableMapping[str, str] = os.environ) -> Entry:
        """To be asked before the working directory is changed."""
        python = environ.pop(STARTED_AS, sys.executable)
        way, real = (os.path.join(os.path.dirname(path), "") for path in (python, sys.executable))
        back = [real + word.removeprefix(way) if word.startswith(way) else word for word in sys.orig_argv[1:]]
        return cls((python, *sys.orig_argv[1:]), (sys.executable, *back), os.getcwd())

    def prove(self) -> Proof:
        """Have the program, as it is on disk now, read the configuration and say what it is. Blocking, for a thread; raises
        `RenewalError`."""
        try:
            done = subprocess.run(
                [*self.words, "--prove"], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=PATIENCE, errors="replace", check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RenewalError(f"the new supervisor cannot be started: {error}") from error
        try:
            said = json.loads(done.stdout.strip().rpartition("\n")[2])
            proof = Proof(str(said["version"]), [int(each) for each in said["protocols"]])
        except (ValueError, LookupError, TypeError):
            told = "; ".join((done.stderr or done.stdout).strip().splitlines()[-5:]) or f"status {done.returncode}"
            raise RenewalError(f"the new supervisor cannot be started: {told}") from None
        if PROTOCOL not in proof.protocols:
            raise RenewalError(
                f"version {proof.version} cannot take on our workers (it speaks protocol "
                f"{', '.join(map(str, proof.protocols))}, they {PROTOCOL}); restart the service instead"
            )
        return proof


@dataclass(frozen=True)
class Proof:
    version: str
    protocols: list[int]


def proof(version: str) -> str:
    """What a new image says of itself."""
    return json.dumps({"version": version, "protocols": [PROTOCOL]})


def become(words: Iterable[str], folder: str, handed: Handed) -> NoReturn:
    """Raises OSError. Signals wait until the other image hears them: unheard, they would end it."""
    program, *_ = words = tuple(words)
    for fd in handed.fds:
        os.set_inheritable(fd, True)
    block(True)
    try:
        os.chdir(folder)
        os.execve(program, words, {**os.environ, HANDED: json.dumps(asdict(handed))})  # noqa: S606
    finally:
        block(False)


@dataclass
class Arrival:
    """What the last image has handed over, if there was one. Its descriptors stay as they are until this one has taken over: it
    may have to go back."""

    handed: Handed = field(default_factory=Handed)

    @property
    def listener(self) -> socket.socket | None:
        """The public socket, or None."""
        if self.handed.listener < 0:
            return None
        listener = socket.socket(fileno=os.dup(self.handed.listener))
        listener.setblocking(False)
        return listener

    def settle(self) -> None:
        """Nobody will go back."""
        for fd in self.handed.fds:
            os.close(fd)
        self.handed = replace(self.handed, listener=-1, locks=(), signals=-1)


def arrived(environ: MutableMapping[str, str] = os.environ) -> Arrival:
    """What the last image of this process has handed over."""
    handed = Handed.of(environ.pop(HANDED, "{}"))
    for fd in handed.fds:
        os.set_inheritable(fd, False)
    return Arrival(handed)
