"""What the supervisor needs to know of a LiteLLM config, and what it can tell is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ccproxy_supervisor.core.deployment import Model, deployment, ollama_name
from ccproxy_supervisor.core.document import Document, read
from ccproxy_supervisor.core.faults import ConfigError, Fault, Path, nearest

__all__ = ["MASTER_KEY", "LiteLLMConfig", "Model", "parse_litellm", "same_model"]

#: Given where an `include` stands and what it says: the included file's own name, to be passed back, and its text.
Include = Callable[[str, str], tuple[str, str]]

REFERENCE = "os.environ/"
MASTER_KEY = "LITELLM_MASTER_KEY"
_SECTIONS = ("model_list", "litellm_settings", "general_settings", "router_settings", "environment_variables")


@dataclass(frozen=True, slots=True)
class LiteLLMConfig:
    """*models* in the order of the file; a name may be there more than once (LiteLLM balances over them)."""

    models: tuple[Model, ...]
    warnings: tuple[Fault, ...] = ()


def parse_litellm(
    text: str,
    env: Mapping[str, str] | None,
    source: str = "config.yaml",
    auth: str = "open",
    include: Include | None = None,
) -> LiteLLMConfig:
    """Read a LiteLLM config for a worker whose environment is *env* (None: not known); raises `ConfigError`."""
    reader = _Reader(dict(env or {}), auth, env is not None)
    pending, seen = [(source, text)], {source}
    while pending:
        file, text = pending.pop(0)
        for name in reader.read(text, file):
            found = reader.attempt(include, file, name)
            if found and found[0] not in seen:
                seen.add(found[0])
                pending.append(found)
    if not reader.models and not any(fault.path.startswith("model_list") or not fault.path for fault in reader.faults):
        reader.faults.append(
            Fault(source, "has no models; LiteLLM needs one", "model_list", reader.lines.get(source, 1))
        )
    if reader.faults:
        raise ConfigError(reader.faults)
    return LiteLLMConfig(tuple(reader.judged(model) for model in reader.models), tuple(reader.warnings))


def same_model(one: str, other: str) -> bool:
    """Whether Ollama takes both names for one model: `llama2` is `llama2:latest`, and case does not matter."""
    return _full(one) == _full(other)


def _full(name: str) -> str:
    name = name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


@dataclass(slots=True)
class _Reader:
    """Gathers models and faults over a file and those it includes."""

    env: dict[str, str]
    auth: str
    complete: bool
    models: list[Model] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    lines: dict[str, int | None] = field(default_factory=dict)
    """Where each file's model_list is, or would be."""
    handlers: set[str] = field(default_factory=set)
    """The providers that a handler of the config answers."""
    groups: tuple[str, ...] | None = None
    """The names that LiteLLM checks in the background; None: all."""

    def judged(self, model: Model) -> Model:
        """Add what the other sections, of whatever file, say of *model*."""
        left_out = self.groups is not None and model.name not in self.groups
        spared = model.spared or ("general_settings.background_health_check_model_groups" if left_out else "")
        return replace(model, custom=model.answered_by in self.handlers, spared=spared)

    def attempt(self, include: Include | None, source: str, name: str) -> tuple[str, str] | None:
        try:
            return include(source, name) if include else None
        except ConfigError as error:
            self.faults += error.faults
            return None

    def read(self, text: str, source: str) -> tuple[str, ...]:
        """Take in one file; returns what it includes."""
        try:
            document = read(text, source)
        except ConfigError as error:
            self.faults += error.faults
            return ()
        self.faults += document.faults
        if not isinstance(document.value, dict):
            self.faults.append(document.fault((), "must be a mapping with a model_list"))
            return ()
        self.lines[source] = document.line(("model_list",))
        self._settings(document)
        self._references(document)
        for index, entry in enumerate(self._list(document, "model_list")):
            self._model(document, entry, ("model_list", index))
        includes = self._list(document, "include")
        if not all(isinstance(name, str) and "\0" not in name for name in includes):
            self.faults.append(document.fault(("include",), "must be a list of files"))
            return ()
        return includes

    def _list(self, document: Document, key: str) -> tuple[Any, ...]:
        value = document.value.get(key)
        if isinstance(value, tuple) or value is None:
            return value or ()
        self.faults.append(document.fault((key,), "must be a list"))
        return ()

    def _settings(self, document: Document) -> None:
        for key in document.value:
            meant = nearest(key, _SECTIONS, 0.85)
            if meant and meant != key:
                self.warnings.append(document.fault((key,), f"LiteLLM ignores this; did you mean {meant}?"))
        self.handlers |= set(_handled(document.value.get("litellm_settings")))
        variables = document.value.get("environment_variables")
        if isinstance(variables, dict):
            self.env |= {key: str(value) for key, value in variables.items()}
            if MASTER_KEY in variables:
                where = ("environment_variables", MASTER_KEY)
                self.faults.append(document.fault(where, "belongs to the supervisor; remove it, see proxy.auth"))
        general = document.value.get("general_settings")
        if isinstance(general, dict) and isinstance(general.get("background_health_check_model_groups"), tuple):
            self.groups = general["background_health_check_model_groups"]
        key = general.get("master_key") if isinstance(general, dict) else None
        if key is None or (self.auth == "master-key" and key == REFERENCE + MASTER_KEY):
            return
        advice = "makes LiteLLM demand a key nobody has; remove it, or set proxy.auth: master-key"
        if self.auth == "master-key":
            advice = f"must be {REFERENCE}{MASTER_KEY} or absent; the supervisor keeps the key"
        self.faults.append(document.fault(("general_settings", "master_key"), advice))

    def _references(self, document: Document) -> None:
        general = document.value.get("general_settings")
        if not self.complete or (isinstance(general, dict) and general.get("key_management_system")):
            return  # a secret manager may know them all
        for path, name in _references(document.value, ()):
            if name not in self.env and path != ("general_settings", "master_key"):
                message = f"{name} is not set; set it in the proxy.env_file"
                self.faults.append(document.fault(path, message))

    def _model(self, document: Document, entry: Any, path: Path) -> None:
        if not isinstance(entry, dict):
            self.faults.append(document.fault(path, "must be a mapping with model_name and litellm_params"))
            return
        name, params = entry.get("model_name"), entry.get("litellm_params")
        if not isinstance(name, str) or not name.strip():
            self.faults.append(document.fault((*path, "model_name"), "must be the name clients ask for"))
        if not isinstance(params, dict):
            self.faults.append(document.fault((*path, "litellm_params"), "must be a mapping with a model"))
            return
        upstream = self._resolved(params.get("model"))
        if not isinstance(upstream, str) or not upstream.strip():
            message = "must be provider/model, such as ollama_chat/llama3.2"
            self.faults.append(document.fault((*path, "litellm_params", "model"), message))
            return
        base = self._resolved(params.get("base_url") or params.get("api_base"))  # LiteLLM prefers it so
        if base is None and ollama_name(upstream, params.get("custom_llm_provider")) is not None:
            message = "without api_base every worker starts its own `ollama serve`; name Ollama's address"
            self.warnings.append(document.fault((*path, "litellm_params"), message))
            base = self.env.get("OLLAMA_API_BASE")
        base = base if isinstance(base, str) else None
        self.models.append(deployment(str(name), upstream, params, base, entry.get("model_info")))

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith(REFERENCE):
            return self.env.get(value.removeprefix(REFERENCE), value)
        return value


def _references(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str) and value.startswith(REFERENCE):
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
