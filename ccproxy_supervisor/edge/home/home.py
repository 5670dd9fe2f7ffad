"""The home folder and what is in it."""

from __future__ import annotations

import contextlib
import os
import secrets as entropy
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ccproxy_supervisor.core.costmap import with_modes
from ccproxy_supervisor.core.envfile import parse_env
from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.edge.home.custody import environment, modules, weaknesses
from ccproxy_supervisor.edge.home.interpreter import cost_map, interpreter_fault, litellm_version

if TYPE_CHECKING:  # pydantic takes 0.3 s: who only asks where things are must not wait for it
    from ccproxy_supervisor.core.litellm import LiteLLMConfig
    from ccproxy_supervisor.core.plan import Plan
    from ccproxy_supervisor.core.settings import ProxySettings, Settings

SETTINGS = "supervisor.yaml"
_LARGEST_FILE = 1 << 20
_TOLD = 10  # of as many faults as an environment has files
_LONGEST_SOCKET = 103  # bytes of path, on macOS; Linux has four more


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
        files = (self.path("master.key"), self.path(settings.proxy.env_file or "master.key"))
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
        from ccproxy_supervisor.core.checks import strangers
        from ccproxy_supervisor.core.litellm import LiteLLMConfig
        from ccproxy_supervisor.core.plan import Plan, birth, own_key, secrets, too_short, worker_env
        from ccproxy_supervisor.core.settings import examine

        settings, found = examine(self.read(self.settings_file), self.shown(self.settings_file))
        if settings is None or any(fault.path.startswith("proxy") for fault in found):
            raise ConfigError(found)  # which other files to read is not known
        proxy, config = settings.proxy, self.path(settings.proxy.config)
        faults = [*found, *self._long_sockets(settings), *self.replaceable()]
        secret: dict[str, str] | None = None
        with _gathered(faults):
            secret = self._env_file(proxy)
        key: str | None = None
        with _gathered(faults):
            key = own_key(secret or {}, proxy) or (None if proxy.auth == "open" else self.master_key())
        env = worker_env(environ, str(config), (secret or {}) | proxy.env, key)
        texts: dict[Path, str] = {}
        litellm = LiteLLMConfig(())
        with _gathered(faults):
            litellm = self._litellm(config, None if secret is None else env, proxy.auth, texts)
        own = dict(litellm.variables)
        python = ""
        with _gathered(faults):
            python = interpreter or self._python(proxy)
        faults += self.replaceable(*self._relied_on(settings, texts), *environment(python))
        if faults:
            raise ConfigError(dict.fromkeys(faults))
        litellm = replace(litellm, models=with_modes(litellm.models, partial(cost_map, python)))
        born = birth(python, str(config), tuple(texts.values()), own | env, proxy.auth, litellm_version(python))
        hidden = secrets(key, secret or {}, own | proxy.env)
        short = too_short(secret or {}, str(proxy.env_file))
        unknown = strangers(litellm.models, settings.models, self.shown(self.settings_file))
        return Plan(settings, litellm, born, hidden, (*litellm.warnings, *short, *unknown))

    def _litellm(self, config: Path, env: Mapping[str, str] | None, auth: str, texts: dict[Path, str]) -> LiteLLMConfig:
        """Read LiteLLM's config and all it includes; their *texts* are collected."""
        from ccproxy_supervisor.core.litellm import parse_litellm

        def include(source: str, name: str) -> tuple[str, str]:
            """Beside the file that names it, else beside the first one, as LiteLLM looks for it."""
            places = [Path(os.path.abspath(file.parent / name)) for file in (self.path(source), config)]
            path = next((place for place in places if place.exists()), places[0])
            texts[path] = self.read(path, remedy=f"it is included by {source}")
            return self.shown(path), texts[path]

        texts[config] = self.read(config)
        return parse_litellm(texts[config], env, self.shown(config), auth, include)

    def _relied_on(self, settings: Settings, texts: Mapping[Path, str]) -> Iterator[str | Path]:
        """What must be nobody else's to change; *texts* are LiteLLM's config and all it includes."""
        yield from (self.settings_file, self.run, self.path("master.key"), *texts)
        yield from map(self.path, (settings.logs.directory, os.path.dirname(settings.admin.socket)))
        yield from filter(None, [settings.proxy.env_file and self.path(settings.proxy.env_file)])
        searched = settings.proxy.env.get("PYTHONPATH", "").split(":")
        folders = (self.path(settings.proxy.config).parent, self.folder, *map(self.path, filter(None, searched)))
        yield from modules(map(str, folders), texts.values())

    def _env_file(self, proxy: ProxySettings) -> dict[str, str]:
        if proxy.env_file is None:
            return {}
        path = self.path(proxy.env_file)
        return parse_env(self.read(path, private=True, remedy="remove proxy.env_file"), self.shown(path))

    def _python(self, proxy: ProxySettings) -> str:
        """Resolve the interpreter's folder but not the file: a virtual environment is known by where its link is."""
        path = self.path(proxy.python)
        reason = ""
        if os.path.lexists(path) and (broken := interpreter_fault(path)):
            reason = f"{broken}; run: ccproxy-supervisor upgrade --repair"
        elif not os.path.isfile(path):
            reason = "no such file; run: ccproxy-supervisor init"
        elif not os.access(path, os.X_OK):
            reason = f"not executable; run: chmod +x '{path}'"
        if reason:
            fault = Fault(self.shown(self.settings_file), f"cannot run '{path}': {reason}", "proxy.python")
            raise ConfigError([fault])
        return os.path.join(os.path.realpath(path.parent), path.name)

    def _long_sockets(self, settings: Settings) -> Iterator[Fault]:
        for path in (self.socket(9_999_999), self.path(settings.admin.socket)):
            length = len(os.fsencode(path))
            if length > _LONGEST_SOCKET:
                message = f"cannot make the socket '{path}': {length} bytes, and macOS allows {_LONGEST_SOCKET}"
                yield Fault(self.shown(self.settings_file), f"{message}; choose a home with a shorter path")


def locate(option: str | None, environ: Mapping[str, str]) -> Home:
    """Find the home: `--config FILE`, else `$CCPROXY_HOME`, else `~/ccproxy`."""
    folder = environ.get("CCPROXY_HOME") or os.path.join(environ.get("HOME") or "~", "ccproxy")
    file = option or os.path.join(folder, SETTINGS)
    return Home(Path(os.path.abspath(os.path.expanduser(file))))


@contextlib.contextmanager
def _gathered(faults: list[Fault]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        faults += error.faults
