"""What LiteLLM's own command does at its start (litellm/proxy/proxy_cli.py) and a worker does not: said, not left out in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_DATABASE = (
    "a database is not supported here: LiteLLM's own command fetches prisma's engine and migrates at each start, and the "
    "supervisor does neither; remove it (one key for all clients: proxy.auth: master-key)"
)
_REFUSED = {
    **dict.fromkeys(("DATABASE_URL", "DIRECT_URL", "DATABASE_URL_READ_REPLICA", "DATABASE_HOST"), _DATABASE),
    **dict.fromkeys(("IAM_TOKEN_DB_AUTH", "AZURE_POSTGRESQL_AUTH", "LITELLM_PGBOUNCER_ENABLED"), _DATABASE),
    "USE_AWS_KMS": "only LiteLLM's own command decrypts its environment with AWS KMS; set the values themselves in proxy.env_file",
    "LITELLM_CONFIG_BUCKET_NAME": "LiteLLM would read its configuration from there, unchecked; set proxy.config",
}
_OFF = ("", "0", "false", "no", "off")
#: Its options that are read from the environment, and who does the same here.
_UNHEARD = {
    "HOST": "set proxy.host",
    "PORT": "set proxy.port",
    "NUM_WORKERS": "set proxy.workers",
    "DEBUG": "set LITELLM_LOG: DEBUG",
    "DETAILED_DEBUG": "set LITELLM_LOG: DEBUG",
    "SSL_KEYFILE_PATH": "Traefik ends TLS, see `traefik`",
    "SSL_CERTFILE_PATH": "Traefik ends TLS, see `traefik`",
    "KEEPALIVE_TIMEOUT": "every connection serves one request",
    "TIMEOUT_WORKER_HEALTHCHECK": "set health.timeout",
    "MAX_REQUESTS_BEFORE_RESTART": "set proxy.max_memory or proxy.max_age",
    "MAX_REQUESTS_BEFORE_RESTART_JITTER": "set proxy.max_memory or proxy.max_age",
    "LIMIT_CONCURRENCY": "set general_settings.global_max_parallel_requests in LiteLLM's config",
    "GRANIAN_RUNTIME_THREADS": "set proxy.workers",
    "PROMETHEUS_METRICS_PORT": "LiteLLM's metrics are at /metrics/ of proxy.port",
}


def refused(name: str, value: str) -> str | None:
    """Say why a worker must not be given the variable *name*."""
    if (why := _REFUSED.get(name)) and value.strip().lower() not in _OFF:
        return why
    return None


def unheard(written: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Name the variables that do nothing, and what does."""
    for name in written:
        if instead := _UNHEARD.get(name):
            yield name, f"only LiteLLM's own command reads this; {instead}"


def database(general: Mapping[str, object]) -> str | None:
    """Say why general_settings may not name a database."""
    return _DATABASE if general.get("database_url") else None
