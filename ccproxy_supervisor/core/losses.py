"""Which entries of a config LiteLLM would leave out at its start, and why: it says so in its log, and goes on without."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ccproxy_supervisor.core.deployment import near
from ccproxy_supervisor.core.faults import Path, nearest
from ccproxy_supervisor.core.includes import is_reference
from ccproxy_supervisor.core.rules import Rules

ENVIRONMENT = "LITELLM_ENVIRONMENT"
_QUOTES = "; put it in quotes"


def losses(
    entry: Mapping[str, Any],
    resolved: Callable[[Any], Any],
    rules: Rules,
    custom: Collection[str],
    env: Mapping[str, str],
) -> Iterator[tuple[Path, str]]:
    """Say for each field that costs the model its place where it is and what is wrong; *custom* are the config's providers.

    *resolved* looks a reference up; one that cannot be is not judged.
    """
    params = entry["litellm_params"]
    for name, written in params.items():
        value = resolved(written)
        if name == "model" or (name == "organization" and isinstance(value, tuple)):
            continue
        if not is_reference(value) and (wanted := rules.wanted(name, value)):
            quotes = _QUOTES if wanted == "text" and not isinstance(value, dict | tuple) else ""
            yield ("litellm_params", name), f"must be {wanted}{_not(value)}{quotes}"
    if _listed(entry) is not None and ENVIRONMENT not in env:
        yield ("model_info", "supported_environments"), f"needs {ENVIRONMENT}, which is not set; set it in proxy.env"
    if why := _unknown(params, resolved, rules, custom):
        yield ("litellm_params", "model"), why


def inactive(entry: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    """Whether the config itself keeps *entry* out of this environment."""
    listed = _listed(entry)
    return listed is not None and ENVIRONMENT in env and env[ENVIRONMENT] not in listed


def _listed(entry: Mapping[str, Any]) -> Any:
    info = entry.get("model_info")
    listed = info.get("supported_environments") if isinstance(info, dict) else None
    return listed if isinstance(listed, tuple) else None


def _not(value: Any) -> str:
    """What it is instead; never the value, which may be a key."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a word",
        dict: "a mapping",
        tuple: "a list",
    }
    return f", not {names.get(type(value), 'nothing' if value is None else 'a date')}"


def _unknown(
    params: Mapping[str, Any], resolved: Callable[[Any], Any], rules: Rules, custom: Collection[str]
) -> str | None:
    """As get_llm_provider looks for a provider: what it does with addresses of other people's is not judged."""
    model, named = str(resolved(params["model"])), resolved(params.get("custom_llm_provider"))
    base = resolved(params.get("base_url") or params.get("api_base"))
    if not rules.providers or (base and not near(str(base))):
        return None
    if isinstance(named, str) and named and model.partition("/")[0] != named:
        model = f"{named}/{model}"
    prefix, slash, _ = model.partition("/")
    if prefix in custom or rules.knows(model):
        return None
    meant = nearest(prefix, {*rules.providers, *custom}, 0.75)
    if slash:
        return f"LiteLLM knows no provider {prefix}" + (f"; did you mean {meant}?" if meant else "")
    return f"LiteLLM does not know whose model that is; write provider/model, such as openai/{model}"
