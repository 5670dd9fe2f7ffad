"""The packages that a LiteLLM config makes it import, beyond those that `litellm[proxy]` brings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ccproxy_supervisor.core.faults import Path

_SPANS = ("opentelemetry-sdk", "opentelemetry-exporter-otlp")
#: Where a config names an integration → its name → packages, as its module in litellm/integrations imports them.
_CALLBACKS = {
    "prometheus": ("prometheus-client",),
    "langfuse": ("langfuse",),
    **dict.fromkeys(("otel", "langfuse_otel", "arize", "arize_phoenix", "weave_otel", "logfire", "langtrace", "agentops"), _SPANS),
    "traceloop": ("traceloop-sdk",),
    "sentry": ("sentry-sdk",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "lunary": ("lunary",),
    "newrelic": ("newrelic",),
    "supabase": ("supabase",),
    "azure_storage": ("azure-storage-file-datalake",),
    "hide_secrets": ("detect-secrets",),
}  # fmt: skip
_CACHES = {"disk": ("diskcache",), "redis-semantic": ("redisvl",)}
_VAULTS = {"google_kms": ("google-cloud-kms",), "azure_key_vault": ("azure-keyvault-secrets",)}
_LISTS = ("callbacks", "success_callback", "failure_callback", "service_callback", "audit_log_callbacks")


def needs(config: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Say where the merged *config* names which integration, and a package that this needs."""
    settings, general = (_mapping(config.get(name)) for name in ("litellm_settings", "general_settings"))
    named: list[tuple[Path, Any, Mapping[str, tuple[str, ...]]]] = [
        (("litellm_settings", key, *place), name, _CALLBACKS)
        for key in _LISTS
        for place, name in _texts(settings.get(key))
    ]
    if settings.get("cache") is True:
        kind = _mapping(settings.get("cache_params")).get("type")
        named.append((("litellm_settings", "cache_params", "type"), kind, _CACHES))
    named.append((("general_settings", "key_management_system"), general.get("key_management_system"), _VAULTS))
    for path, name, table in named:
        for package in table.get(name, ()) if isinstance(name, str) else ():
            yield path, str(name), package


def missing(config: Mapping[str, Any], installed: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Say what is not *installed* (canonical names), with the remedy."""
    for path, name, package in needs(config):
        if package not in installed:
            remedy = "add it to proxy.packages and run: ccproxy-supervisor upgrade"
            yield path, f"{name} needs the package {package}, which is not in LiteLLM's environment; {remedy}"


def canonical(requirement: str) -> str:
    """The name in *requirement*, as package indexes spell it."""
    name = re.match(r"[A-Za-z0-9._-]*", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower().strip("-") if name else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, str):
        yield (), value
    elif isinstance(value, tuple):
        yield from (((index,), item) for index, item in enumerate(value))


def unmet(packages: Collection[str], installed: Collection[str]) -> Iterator[str]:
    """Say which of the wanted *packages* are not *installed*; versions are for the installer to judge."""
    for wanted in packages:
        if installed and canonical(wanted) not in installed:
            yield f"{wanted} is not in LiteLLM's environment yet; run: ccproxy-supervisor upgrade"
