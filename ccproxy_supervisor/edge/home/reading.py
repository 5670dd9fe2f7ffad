"""Reads and checks everything that the settings name, into one plan."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from ccproxy_supervisor.core import command
from ccproxy_supervisor.core.checks import strangers
from ccproxy_supervisor.core.contacts import Contacts, contacts
from ccproxy_supervisor.core.costmap import with_modes
from ccproxy_supervisor.core.envfile import parse_env
from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.core.litellm import LiteLLMConfig, parse_litellm
from ccproxy_supervisor.core.modules import modules
from ccproxy_supervisor.core.needs import unmet
from ccproxy_supervisor.core.plan import COUNTERS, Plan, Sources, birth, own_key, secrets, too_short, worker_env
from ccproxy_supervisor.core.rules import Rules
from ccproxy_supervisor.core.settings import ProxySettings, Settings, examine
from ccproxy_supervisor.edge.home import custody
from ccproxy_supervisor.edge.home.denied import packages, unfit
from ccproxy_supervisor.edge.home.handlers import compiled, newer, parsed
from ccproxy_supervisor.edge.home.home import Home
from ccproxy_supervisor.edge.home.interpreter import (
    cost_map,
    interpreter_fault,
    litellm_rules,
    litellm_version,
    python_version,
)

_LONGEST_SOCKET = 103  # bytes of path, on macOS; Linux has four more


def read_plan(home: Home, environ: Mapping[str, str], interpreter: str | None = None) -> Plan:
    """As `Home.read_plan`."""
    settings, found = examine(home.read(home.settings_file), home.shown(home.settings_file))
    if settings is None or any(fault.path.startswith("proxy") for fault in found):
        raise ConfigError(found)  # which other files to read is not known
    return _Reading(home, settings, [*found, *_long_sockets(home, settings)]).plan(environ, interpreter)


@dataclass(slots=True)
class _Reading:
    """One reading: faults are gathered, and so are the *texts* that workers are born from."""

    home: Home
    settings: Settings
    faults: list[Fault]
    texts: dict[Path, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.home.path(self.settings.proxy.config)

    def plan(self, environ: Mapping[str, str], interpreter: str | None) -> Plan:
        proxy, name = self.settings.proxy, self.home.shown(self.home.settings_file)
        self.faults += self.home.replaceable()
        secret, key, python = None, None, ""
        litellm, kept = LiteLLMConfig(()), dict[str, str]()
        with self._gathered():
            secret = self._env_file(proxy.env_file, "proxy.env_file")
        with self._gathered():
            key = own_key(secret or {}, proxy) or (None if proxy.auth == "open" else self.home.master_key())
        told = Contacts()
        with self._gathered():
            told = contacts(self.settings, self._env_file(self.settings.notify.env_file, "notify.env_file"))
        written = (secret or {}) | proxy.env
        env = worker_env(environ, str(self.config), written, key) | self._ours(written)
        self.faults += self._refused(secret or {})
        with self._gathered():
            python = interpreter or self._python(proxy)
        with self._gathered():
            litellm = self._litellm(None if secret is None else env, litellm_rules(python, litellm_version(python)))
        with self._gathered():
            kept = {self.config.name: litellm.text} | self._modules(litellm, python)
        self.faults += self.home.replaceable(*self._relied_on(), *custody.environment(python))
        environment = Path(python).parent.parent
        self.faults += [
            Fault(self.home.shown(environment), why) for why in unfit(environment, self.settings.upgrade.denied)
        ]
        if self.faults:
            raise ConfigError(dict.fromkeys(self.faults))
        litellm = replace(litellm, models=with_modes(litellm.models, partial(cost_map, python)))
        own = dict(litellm.variables) | self._counters(litellm)
        sources = Sources(tuple((str(path), text) for path, text in self.texts.items()), tuple(kept.items()))
        born = birth(python, str(self.config), sources, own | env, proxy.auth, litellm_version(python))
        hidden = (*secrets(key, secret or {}, own | proxy.env), *(each.encode() for each in told.secrets))
        odd = [*too_short(secret or {}, str(proxy.env_file)), *strangers(litellm.models, self.settings, name)]
        odd += [Fault(name, why, f"proxy.env.{variable}") for variable, why in command.unheard(proxy.env)]
        odd += [Fault(str(proxy.env_file), f"{variable}: {why}") for variable, why in command.unheard(secret or {})]
        odd += [Fault(name, why, "proxy.packages") for why in unmet(proxy.packages, packages(Path(python).parents[1]))]
        return Plan(self.settings, litellm, born, hidden, (*litellm.warnings, *odd), told)

    def _refused(self, secret: Mapping[str, str]) -> Iterator[Fault]:
        """Variables that LiteLLM's own command acts upon at its start."""
        proxy, name = self.settings.proxy, self.home.shown(self.home.settings_file)
        for variable, value in proxy.env.items():
            if why := command.refused(variable, value):
                yield Fault(name, why, f"proxy.env.{variable}")
        for variable, value in secret.items():
            if why := command.refused(variable, value):
                yield Fault(str(proxy.env_file), f"{variable}: {why}")

    def _ours(self, written: Mapping[str, str]) -> dict[str, str]:
        """With a path of its own LiteLLM rewrites its pages: not those of its package, which stay as they were inspected."""
        root = written.get("SERVER_ROOT_PATH", "").strip("/")
        if not root or "LITELLM_UI_PATH" in written:
            return {}
        return {"LITELLM_UI_PATH": str(self.home.run / "ui" / sha256(root.encode()).hexdigest()[:8])}

    def _counters(self, litellm: LiteLLMConfig) -> dict[str, str]:
        """Several workers behind one port must count together, or each scrape would show another's counters."""
        proxy = self.settings.proxy
        together = "prometheus" in litellm.integrations and proxy.workers + proxy.standby > 1
        return {COUNTERS: str(self.home.run / "prometheus")} if together else {}

    @contextlib.contextmanager
    def _gathered(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self.faults += error.faults

    def _litellm(self, env: Mapping[str, str] | None, rules: Rules | None) -> LiteLLMConfig:
        """Read LiteLLM's config and all it includes."""

        def include(source: str, name: str) -> tuple[str, str]:
            """Beside the file that names it, else beside the first one, as LiteLLM looks for it."""
            places = [Path(os.path.abspath(file.parent / name)) for file in (self.home.path(source), self.config)]
            path = next((place for place in places if place.exists()), places[0])
            return self._take(path, f"it is included by {source}")

        name, text = self._take(self.config)
        return parse_litellm(text, env, name, self.settings.proxy.auth, include, rules)

    def _take(self, path: Path, remedy: str = "run: ccproxy-supervisor init") -> tuple[str, str]:
        self.texts[path] = self.home.read(path, remedy=remedy)
        return self.home.shown(path), self.texts[path]

    def _modules(self, litellm: LiteLLMConfig, python: str) -> dict[str, str]:
        """Read the modules beside the config that it names, and those that they import."""

        def find(name: str) -> tuple[str, str] | None:
            path = self.config.parent / name
            return self._take(path) if os.path.isfile(path) else None

        found, faults = modules(litellm.names, find, parsed if newer(python_version(python)) else compiled)
        self.faults += faults
        return found

    def _relied_on(self) -> Iterator[str | Path]:
        """What must be nobody else's to change."""
        home, settings = self.home, self.settings
        yield from (home.settings_file, home.run, home.path("master.key"), *self.texts)
        yield from map(home.path, (settings.logs.directory, os.path.dirname(settings.admin.socket)))
        yield from (home.path(file) for file in (settings.proxy.env_file, settings.notify.env_file) if file)
        searched = settings.proxy.env.get("PYTHONPATH", "").split(":")
        folders = (self.config.parent, home.folder, *map(home.path, filter(None, searched)))
        named = (text for path, text in self.texts.items() if path.suffix != ".py")
        yield from custody.modules(map(str, folders), named)

    def _env_file(self, name: str | None, setting: str) -> dict[str, str]:
        if name is None:
            return {}
        path = self.home.path(name)
        return parse_env(self.home.read(path, private=True, remedy=f"remove {setting}"), self.home.shown(path))

    def _python(self, proxy: ProxySettings) -> str:
        """Resolve the interpreter's folder but not the file: a virtual environment is known by where its link is."""
        path = self.home.path(proxy.python)
        reason = ""
        if os.path.lexists(path) and (broken := interpreter_fault(path)):
            reason = f"{broken}; run: ccproxy-supervisor upgrade --repair"
        elif not os.path.isfile(path):
            reason = "no such file; run: ccproxy-supervisor init"
        elif not os.access(path, os.X_OK):
            reason = f"not executable; run: chmod +x '{path}'"
        if reason:
            fault = Fault(self.home.shown(self.home.settings_file), f"cannot run '{path}': {reason}", "proxy.python")
            raise ConfigError([fault])
        return os.path.join(os.path.realpath(path.parent), path.name)


def _long_sockets(home: Home, settings: Settings) -> Iterator[Fault]:
    for path in (home.socket(9_999_999), home.path(settings.admin.socket)):
        length = len(os.fsencode(path))
        if length > _LONGEST_SOCKET:
            message = f"cannot make the socket '{path}': {length} bytes, and macOS allows {_LONGEST_SOCKET}"
            yield Fault(home.shown(home.settings_file), f"{message}; choose a home with a shorter path")
