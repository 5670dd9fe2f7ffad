"""What the supervisor needs to know of a LiteLLM config, and what it can tell is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ccproxy_supervisor.core import command
from ccproxy_supervisor.core.deployment import Model, deployment, ollama_name
from ccproxy_supervisor.core.faults import ConfigError, Fault, Path, nearest
from ccproxy_supervisor.core.includes import Include, Merged, gather, is_reference
from ccproxy_supervisor.core.losses import inactive, losses
from ccproxy_supervisor.core.modules import dotted_names
from ccproxy_supervisor.core.needs import missing, needs
from ccproxy_supervisor.core.rules import Rules
from ccproxy_supervisor.core.values import REFERENCE

__all__ = ["MASTER_KEY", "LiteLLMConfig", "Model", "parse_litellm", "same_model"]

MASTER_KEY = "LITELLM_MASTER_KEY"
_SECTIONS = ("model_list", "litellm_settings", "general_settings", "router_settings", "environment_variables")
#: What LiteLLM lets no config set (litellm/proxy/proxy_server.py, ProxyConfig._BLOCKED_ENV_KEYS).
_NOT_ITS = frozenset(
    {"PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "PYTHONSTARTUP"}
    | {"PYTHONHOME", "HOME", "USER", "SHELL", "LOGNAME", "NO_PROXY", "no_proxy"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LiteLLMConfig:
    """*models* in the order of the file; a name may be there more than once (LiteLLM balances over them).

    *variables* are those that it sets itself and that are set nowhere else. *dropped* names the models that LiteLLM
    would leave out, each with the reason, *expected* counts the deployments that it has to make of each name. *text* says
    all that the config says, in one file; *names* are those in it that could be of Python modules, *integrations* those that
    need more packages than LiteLLM itself.
    """

    models: tuple[Model, ...]
    warnings: tuple[Fault, ...] = ()
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    dropped: tuple[tuple[str, Fault], ...] = ()
    expected: tuple[tuple[str, int], ...] = ()
    text: str = field(default="", repr=False, compare=False)
    integrations: frozenset[str] = frozenset()
    names: frozenset[str] = field(default=frozenset(), repr=False, compare=False)


def parse_litellm(
    text: str,
    env: Mapping[str, str] | None,
    source: str = "config.yaml",
    auth: str = "open",
    include: Include | None = None,
    rules: Rules | None = None,
) -> LiteLLMConfig:
    """Read a LiteLLM config for a worker whose environment is *env* (None: not known); raises `ConfigError`.

    Without LiteLLM's own *rules* nobody knows what it would drop.
    """
    merged = gather(text, source, include)
    reader = _Reader(merged, dict(env or {}), auth, env is not None, rules)
    if merged.root:
        reader.read()
    if merged.faults:
        raise ConfigError(merged.faults)
    models = tuple(reader.judged(model) for model in reader.models)
    names = frozenset(dotted_names(merged.value))
    return LiteLLMConfig(
        models, tuple(merged.warnings), tuple(reader.variables.items()), tuple(reader.dropped),
        tuple(reader.expected.items()), merged.text,
        frozenset(name for _, name, _ in needs(merged.value)), names,
    )  # fmt: skip


def same_model(one: str, other: str) -> bool:
    """Whether Ollama takes both names for one model: `llama2` is `llama2:latest`, and case does not matter."""
    return _full(one) == _full(other)


def _full(name: str) -> str:
    name = name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


@dataclass(slots=True)
class _Reader:
    """Gathers models and faults."""

    merged: Merged
    env: dict[str, str]
    auth: str
    complete: bool
    rules: Rules | None
    models: list[Model] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    dropped: list[tuple[str, Fault]] = field(default_factory=list)
    expected: Counter[str] = field(default_factory=Counter)

    def judged(self, model: Model) -> Model:
        """Add what the other sections say of *model*."""
        groups = self._section("general_settings").get("background_health_check_model_groups")
        left_out = isinstance(groups, tuple) and model.name not in groups
        spared = model.spared or ("general_settings.background_health_check_model_groups" if left_out else "")
        custom = model.answered_by in set(_handled(self.merged.value.get("litellm_settings")))
        return replace(model, custom=custom, spared=spared)

    def read(self) -> None:
        self._settings()
        self._start()
        self._variables()
        self._references()
        entries = self.merged.value.get("model_list") or ()
        if not isinstance(entries, tuple):
            self._fault(("model_list",), "must be a list")
            return
        if not entries:
            self._warn(("model_list",), "has no models; LiteLLM answers for none")
        for index, entry in enumerate(entries):
            self._model(entry, ("model_list", index))

    def _fault(self, path: Path, message: str) -> None:
        self.merged.faults.append(self.merged.fault(path, message))

    def _warn(self, path: Path, message: str) -> None:
        self.merged.warnings.append(self.merged.fault(path, message))

    def _section(self, name: str) -> dict[str, Any]:
        value = self.merged.value.get(name)
        return value if isinstance(value, dict) else {}

    def _settings(self) -> None:
        for key in self.merged.value:
            meant = nearest(key, _SECTIONS, 0.85)
            if meant and meant != key:
                self._warn((key,), f"LiteLLM ignores this; did you mean {meant}?")
        master = self._section("general_settings").get("master_key")
        if master is None or (self.auth == "master-key" and master == REFERENCE + MASTER_KEY):
            return
        advice = "makes LiteLLM demand a key nobody has; remove it, or set proxy.auth: master-key"
        if self.auth == "master-key":
            advice = f"must be {REFERENCE}{MASTER_KEY} or absent; the supervisor keeps the key"
        self._fault(("general_settings", "master_key"), advice)

    def _start(self) -> None:
        """What LiteLLM would need at its start, and does not find here."""
        if why := command.database(self._section("general_settings")):
            self._fault(("general_settings", "database_url"), why)
        for path, why in missing(self.merged.value, self.rules.installed) if self.rules else ():
            self._fault(path, why)

    def _variables(self) -> None:
        """LiteLLM sets these after it has looked references up, so a worker is started with them."""
        variables = self._section("environment_variables")
        if MASTER_KEY in variables:
            self._fault(("environment_variables", MASTER_KEY), "belongs to the supervisor; remove it, see proxy.auth")
        for name, written in variables.items():
            value = self._resolved(written)
            for _, instead in command.unheard({name: ""}):
                self._warn(("environment_variables", name), instead)
            if why := command.refused(name, str(value)):
                self._fault(("environment_variables", name), why)
            elif name in _NOT_ITS:
                self._warn(("environment_variables", name), "LiteLLM ignores this; set it in proxy.env")
            elif not name or "=" in name or "\0" in f"{name}{value}":
                self._fault(("environment_variables", name), "is no environment variable")
            elif name not in self.env and not is_reference(value):
                self.variables[name] = str(value)
        self.env |= self.variables

    def _references(self) -> None:
        if not self.complete or self._section("general_settings").get("key_management_system"):
            return  # a secret manager may know them all
        for path, name in _references(self.merged.value, ()):
            if name not in self.env and path != ("general_settings", "master_key"):
                self._fault(path, f"{name} is not set; set it in the proxy.env_file")

    def _model(self, entry: Any, path: Path) -> None:
        if not isinstance(entry, dict):
            self._fault(path, "must be a mapping with model_name and litellm_params")
            return
        name, params = self._resolved(entry.get("model_name")), entry.get("litellm_params")
        if not isinstance(name, str) or not name.strip():
            self._fault((*path, "model_name"), "must be the name clients ask for")
        if not isinstance(params, dict):
            self._fault((*path, "litellm_params"), "must be a mapping with a model")
            return
        upstream = self._resolved(params.get("model"))
        if not isinstance(upstream, str) or not upstream.strip():
            self._fault((*path, "litellm_params", "model"), "must be provider/model, such as ollama_chat/llama3.2")
            return
        base = self._resolved(params.get("base_url") or params.get("api_base"))  # LiteLLM prefers it so
        if base is None and ollama_name(upstream, params.get("custom_llm_provider")) is not None:
            message = "without api_base every worker starts its own `ollama serve`; name Ollama's address"
            self._warn((*path, "litellm_params"), message)
            base = self.env.get("OLLAMA_API_BASE")
        base = base if isinstance(base, str) else None
        self.models.append(deployment(str(name), upstream, params, base, entry.get("model_info")))
        self._expect(str(name), entry, path)

    def _expect(self, name: str, entry: dict[str, Any], path: Path) -> None:
        """Note what LiteLLM will make of *entry*."""
        if self.complete and inactive(entry, self.env):
            return
        self.expected[name] += 1
        custom = set(_handled(self.merged.value.get("litellm_settings")))
        found = losses(entry, self._resolved, self.rules, custom, self.env) if self.rules and self.complete else ()
        self.dropped += [(name, self.merged.fault((*path, *place), why)) for place, why in found]

    def _resolved(self, value: Any) -> Any:
        return self.env.get(value.removeprefix(REFERENCE), value) if is_reference(value) else value


def _references(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if is_reference(value):
        yield path, value.removeprefix(REFERENCE)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _references(item, (*path, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _references(item, (*path, index))


def _handled(section: Any) -> Iterator[str]:
    """The providers in a `custom_provider_map`."""
    entries = section.get("custom_provider_map") if isinstance(section, dict) else None
    for entry in entries if isinstance(entries, tuple) else ():
        if isinstance(entry, dict) and isinstance(entry.get("provider"), str):
            yield entry["provider"]
