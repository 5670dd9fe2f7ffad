"""The home folder and what is in it."""

from __future__ import annotations

import contextlib
import os
import secrets as entropy
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.edge.home.custody import weaknesses

if TYPE_CHECKING:  # pydantic takes 0.3 s: who only asks where things are must not wait for it
    from ccproxy_supervisor.core.plan import Plan
    from ccproxy_supervisor.core.settings import Settings

SETTINGS = "supervisor.yaml"
_LARGEST_FILE = 1 << 20
_TOLD = 10  # of as many faults as an environment has files


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that *settings_file* is in; neither needs to exist."""

    settings_file: Path

    @property
    def folder(self) -> Path:
        return self.settings_file.parent

    @property
    def run(self) -> Path:
        """The folder of sockets, lock and state."""
        return self.folder / "run"

    def path(self, value: str) -> Path:
        """Resolve a path among the settings: relative ones start at the home."""
        return self.folder / os.path.expanduser(value)

    def shown(self, path: Path) -> str:
        """Name *path* as messages do: without the home, where it is inside."""
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)

    def socket(self, number: int) -> Path:
        """The private socket of worker *number*."""
        return self.run / f"w{number}.sock"

    def prepare(self, settings: Settings) -> tuple[Fault, ...]:
        """Make the folders that are missing and close those that are ours to others; returns what cannot be done."""
        faults = []
        for folder in (self.run, self.path(settings.admin.socket).parent, self.path(settings.logs.directory)):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if folder.is_relative_to(self.folder) and folder != self.folder:
                    folder.chmod(0o700)
            except OSError as error:
                faults.append(Fault(self.shown(folder), f"cannot make the folder: {error.strerror}"))
        return tuple(faults)

    def check_permissions(self, settings: Settings) -> list[Fault]:
        """Find what others may look into, each with the remedy."""
        faults = []
        folders = (self.folder, self.run, self.path(settings.logs.directory))
        named = (settings.proxy.env_file, settings.notify.env_file)
        files = (self.path("master.key"), *(self.path(name) for name in named if name))
        for path in dict.fromkeys((*folders, *files)):
            with contextlib.suppress(OSError):
                faults += self._exposed(path, path.stat(), 0o700 if path in folders else 0o600)
        return faults

    def replaceable(self, *paths: str | Path) -> list[Fault]:
        """Find whether others could put their own configuration or programs in place of the home or *paths*."""
        with contextlib.suppress(OSError):
            found = self.folder.stat()
            if found.st_uid != os.geteuid():
                return self._exposed(self.folder, found, 0o700)
        weak = weaknesses(map(str, (self.folder, *paths)))
        told = [Fault(self.shown(Path(place)), why) for place, why in weak[:_TOLD]]
        more = [Fault(".", f"and {len(weak) - _TOLD} more such places")] if len(weak) > _TOLD else []
        return told + more

    def _exposed(self, path: Path, found: os.stat_result, mode: int) -> list[Fault]:
        name = self.shown(path)
        if found.st_uid != os.geteuid():
            remedy = f"chown {os.geteuid()} '{path}'"
            if os.geteuid() == 0 and self.folder.stat().st_uid != 0:  # giving root the home would lock its owner out
                remedy = "the same command as that user, without sudo"
            return [Fault(name, f"belongs to user {found.st_uid}, not to us; run: {remedy}")]
        if found.st_mode & 0o077:
            now = stat.S_IMODE(found.st_mode)
            return [Fault(name, f"is open to other users (mode {now:04o}); run: chmod {mode:o} '{path}'")]
        return []

    def master_key(self) -> str:
        """Read the generated master key, or generate it; raises `ConfigError`."""
        path = self.path("master.key")
        if not os.path.exists(path):
            self._make_key(path)
        key = self.read(path, private=True).strip()
        if not key.startswith("sk-") or len(key) < 20:
            raise ConfigError([Fault(self.shown(path), f"is not a key; delete '{path}' to get a new one")])
        return key

    def _make_key(self, path: Path) -> None:
        if faults := self.replaceable():
            raise ConfigError(faults)  # the key would be of use to us only
        draft = path.with_name(f".master.key.{entropy.token_hex(4)}")
        try:
            with open(draft, "x", opener=partial(os.open, mode=0o600)) as file:
                file.write(f"sk-{entropy.token_urlsafe(32)}\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # somebody was faster: theirs is the key
                os.link(draft, path)
        except OSError as error:
            raise ConfigError([Fault(self.shown(path), f"cannot keep a master key: {error.strerror}")]) from None
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()

    def read(self, path: Path, *, private: bool = False, remedy: str = "run: ccproxy-supervisor init") -> str:
        """Read a text file of at most 1 MiB; *private* ones must be ours alone. Raises `ConfigError`."""
        name = self.shown(path)
        try:
            at_once = lambda name, flags: os.open(name, flags | os.O_NONBLOCK)  # noqa: E731 - a FIFO must not hang us
            with open(path, "rb", opener=at_once) as stream:
                found = os.fstat(stream.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise ConfigError([Fault(name, "cannot read it: not a file")])
                if private and (faults := self._exposed(path, found, 0o600)):
                    raise ConfigError(faults)
                data = stream.read(_LARGEST_FILE + 1)
        except OSError as error:
            advice = f"; {remedy}" if isinstance(error, FileNotFoundError) else ""
            raise ConfigError([Fault(name, f"cannot read '{path}': {error.strerror}{advice}")]) from None
        if len(data) > _LARGEST_FILE:
            raise ConfigError([Fault(name, "cannot read it: larger than 1 MiB")])
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigError([Fault(name, "cannot read it: not UTF-8", "", line)]) from None

    def read_plan(self, environ: Mapping[str, str], interpreter: str | None = None) -> Plan:
        """Read and check every file for workers that inherit from *environ*; raises `ConfigError` with all faults.

        *interpreter* stands in for the one that `proxy.python` names.
        """
        from ccproxy_supervisor.edge.home.reading import read_plan

        return read_plan(self, environ, interpreter)


def locate(option: str | None, environ: Mapping[str, str]) -> Home:
    """Find the home: `--config FILE`, else `$CCPROXY_HOME`, else `~/ccproxy`."""
    folder = environ.get("CCPROXY_HOME") or os.path.join(environ.get("HOME") or "~", "ccproxy")
    file = option or os.path.join(folder, SETTINGS)
    return Home(Path(os.path.abspath(os.path.expanduser(file))))
