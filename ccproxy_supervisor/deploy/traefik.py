"""Traefik's dynamic configuration: who gets in, which paths there are, and how they reach LiteLLM."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ccproxy_supervisor.core.envfile import parse_env
from ccproxy_supervisor.core.litellm import MASTER_KEY
from ccproxy_supervisor.core.settings import Settings
from ccproxy_supervisor.deploy.fleet import PEER, authority, balancer
from ccproxy_supervisor.deploy.tokens import Ledger, Token, put_text
from ccproxy_supervisor.edge.home import Home

#: What clients may ask for. Nothing that administers LiteLLM: in `auth: master-key` every client speaks with its key.
PATHS = (
    "/v1/messages",
    "/v1/messages/count_tokens",
    "(?:/v1)?/chat/completions",
    "(?:/v1)?/completions",
    "(?:/v1)?/embeddings",
    "(?:/v1)?/responses(?:/[A-Za-z0-9_=-]+(?:/cancel|/input_items)?)?",  # LiteLLM makes its ids with base64
    "(?:/v1)?/models",
    "(?:/v1)?/models/[A-Za-z0-9._:@-]+",
)

#: Every header LiteLLM takes a key from. A client's own must not reach it.
KEY_HEADERS = (
    "Authorization",
    "X-Api-Key",
    "Api-Key",
    "X-Litellm-Api-Key",
    "X-Goog-Api-Key",
    "Ocp-Apim-Subscription-Key",
)


#: Tells the workers who asks, for their counts; whatever a client sends under this name is replaced.
CLIENT = "X-CCProxy-Client"


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # an anchor is for machines


_HEAD = """\
# Written by `ccproxy-supervisor traefik` and `token add|revoke`; changes made by hand are lost.
# Holds tokens in plain text, because Traefik compares them: keep it 0600 and out of backups and repositories.
"""


def current(home: Home, settings: Settings, ledger: Ledger) -> str:
    """Write what the home asks for now; raises `ConfigError` when its keys cannot be read."""
    return render(settings, ledger, litellm_key(home, settings))


def publish(home: Home, settings: Settings, ledger: Ledger) -> Path:
    """Replace Traefik's file in one step; an emptied one, even for a moment, would make every route a 404."""
    path = output(home, ledger)
    put_text(path, current(home, settings, ledger))
    return path


def stale(home: Home, settings: Settings, ledger: Ledger) -> bool:
    """Whether the file says something else than it should; raises `ConfigError` when it cannot be read."""
    written = home.read(output(home, ledger), private=True, remedy="run: ccproxy-supervisor traefik")
    return written != current(home, settings, ledger)


def ledger_file(home: Home) -> Path:
    return home.path("tokens.json")


def output(home: Home, ledger: Ledger) -> Path:
    return Path(ledger.output) if ledger.output else home.path("traefik/dynamic.yaml")


def litellm_key(home: Home, settings: Settings) -> str | None:
    """Find the key LiteLLM asks for, None in `auth: open`."""
    proxy = settings.proxy
    if proxy.auth == "open":
        return None
    file = home.path(proxy.env_file) if proxy.env_file else None
    own = parse_env(home.read(file, private=True), home.shown(file)).get(MASTER_KEY) if file else None
    return own or home.master_key()


def render(settings: Settings, ledger: Ledger, key: str | None) -> str:
    """Write the file for Traefik's file provider; *key* is LiteLLM's own in `auth: master-key`."""
    return _HEAD + yaml.dump({"http": document(settings, ledger, key)}, Dumper=_Plain, sort_keys=False, width=10_000)


def document(settings: Settings, ledger: Ledger, key: str | None) -> dict[str, Any]:
    routers: dict[str, dict[str, Any]] = {}
    paths = (*PATHS, *map(_pattern, settings.traefik.paths))
    for token in ledger.tokens:
        routers |= _member(token, paths) if token.name == PEER else _client(token, paths)
    routers["ccproxy-hello"] = _turned_away("Method(`HEAD`) && Path(`/`)", "ccproxy-hello", priority=90)
    routers["ccproxy-deny"] = _turned_away("PathPrefix(`/`)", "ccproxy-challenge", *_SAID, "ccproxy-deny", priority=1)
    for router in routers.values():
        router["entryPoints"] = list(ledger.entry_points)
    peer = ledger.get(PEER)
    here, there = _credentials(key), _credentials(peer.secret if peer else key)
    own = {"ccproxy-local-credentials": _headers(here), "ccproxy-local-retry": {"retry": _retry(False)}}
    local = {"servers": [{"url": f"http://{authority(settings.proxy.host, settings.proxy.port)}"}]}
    admin = {"servers": [{"url": f"http://{authority(settings.admin.host, settings.admin.port)}"}]}
    front = balancer(settings.fleet, there) if settings.fleet else local
    services = {"ccproxy": front, "ccproxy-nobody": _NOBODY}
    services |= {"ccproxy-words": admin} | ({"ccproxy-local": local, "ccproxy-admin": admin} if peer else {})
    return {
        "routers": routers,
        "middlewares": {
            "ccproxy-credentials": _headers(there if settings.fleet else here),
            "ccproxy-retry": {"retry": _retry(bool(settings.fleet))},
            **{
                f"ccproxy-is-{token.name}": _headers({CLIENT: token.name})
                for token in ledger.tokens
                if token.name != PEER
            },
            **(own if peer else {}),
            "ccproxy-challenge": {"headers": {"customResponseHeaders": {"WWW-Authenticate": "Bearer"}}},
            "ccproxy-final": {"headers": {"customResponseHeaders": _FINAL}},
            "ccproxy-words": {"errors": {"status": ["401", "404"], "service": "ccproxy-words", "query": _WORDS}},
            **{
                f"ccproxy-{name}": _always(status) for name, status in (("deny", 401), ("unknown", 404), ("hello", 200))
            },
        },
        "services": {name: {"loadBalancer": {**_forwarding(name), **service}} for name, service in services.items()},
        "serversTransports": {
            "ccproxy": _transport("2s" if settings.fleet else "10s", "0s"),
            "ccproxy-words": _transport("1s", "2s"),
        },
    }


def _client(token: Token, paths: Iterable[str]) -> dict[str, Any]:
    """Route one client, under a name of its own: revocable alone, and named in Traefik's access log and metrics. What is not
    offered is no matter of its token."""
    rule = f"{_path(*paths)} && {_holds(token)}"
    return {
        f"client-{token.name}": _router(
            rule, "ccproxy", f"ccproxy-is-{token.name}", "ccproxy-credentials", "ccproxy-retry"
        ),
        f"other-{token.name}": _turned_away(_holds(token), *_SAID, "ccproxy-unknown", priority=50),
    }


def _member(token: Token, paths: Iterable[str]) -> dict[str, Any]:
    """Route another host's front door: to this host only, never on to the fleet, or requests would go in circles."""
    served = f"{_path(*paths, '/health/liveliness')} && {_holds(token)}"
    watched = f"{_path('/metrics')} && {_holds(token)}"
    return {
        "fleet": _router(served, "ccproxy-local", "ccproxy-local-credentials", "ccproxy-local-retry"),
        "fleet-metrics": _router(watched, "ccproxy-admin"),
        f"other-{token.name}": _turned_away(_holds(token), *_SAID, "ccproxy-unknown", priority=50),
    }


def _turned_away(rule: str, *middlewares: str, priority: int) -> dict[str, Any]:
    return _router(rule, "ccproxy-nobody", *middlewares, priority=priority)


def _always(status: int) -> dict[str, Any]:
    """Answer *status* to everybody, at once and without a server: Traefik's list of addresses, with one that nobody has."""
    return {"ipAllowList": {"sourceRange": ["255.255.255.255/32"], "rejectStatusCode": status}}


def _pattern(path: str) -> str:
    """One of `traefik.paths` as a regular expression."""
    return re.escape(path.removesuffix("/*")) + ("/.*" if path.endswith("/*") else "")


def _router(rule: str, service: str, *middlewares: str, priority: int = 100) -> dict[str, Any]:
    told = {"rule": rule, "priority": priority, "middlewares": list(middlewares), "service": service}
    return {key: value for key, value in told.items() if value}


def _path(*patterns: str) -> str:
    return f"PathRegexp(`^(?:{'|'.join(patterns)})$`)"


def _holds(token: Token) -> str:
    """Match the token as a bearer or as an API key, whole; a header that comes twice is as good as its better half.

    `(?i)` covers the word only: over the token it would give away a seventh of its bits.
    """
    return f"(HeaderRegexp(`Authorization`, `^(?i:bearer) {re.escape(token.secret)}$`) || Header(`X-Api-Key`, `{token.secret}`))"


def _credentials(bearer: str | None) -> dict[str, str]:
    """Say what goes upstream instead of the client's own; Traefik removes a header that is set to nothing."""
    return dict.fromkeys(KEY_HEADERS, "") | {"Authorization": f"Bearer {bearer}" if bearer else ""}


def _headers(credentials: dict[str, str]) -> dict[str, Any]:
    return {"headers": {"customRequestHeaders": credentials}}


def _retry(several: bool) -> dict[str, Any]:
    """Repeat only what never reached a server: no `status`, no `retryNonIdempotentMethod`.

    With several hosts, for longer than it takes to notice that one is gone; with one, so that a dead one is told at once:
    to clients, and to the health check of another front door.
    """
    return {"attempts": 8, "initialInterval": "200ms"} if several else {"attempts": 3, "initialInterval": "50ms"}


#: Who is refused is told why, by the daemon, and not to try again: Claude Code tries a bare 401 for three minutes, silently.
#: While the daemon is not there the status and these headers are the same.
_SAID = ("ccproxy-final", "ccproxy-words")
_FINAL = {"X-Should-Retry": "false"}
_WORDS = "/refusal?status={status}&url={url}"

#: Where denied requests would go if they were not denied before. Traefik's own noop@internal would do, but what it
#: answers is left out of access log and metrics, and guessed tokens are worth seeing.
_NOBODY = {"servers": [{"url": "http://127.0.0.1:1"}]}

#: No buffering: what streams (events, or an answer of unknown length) is handed on chunk by chunk in any case; the interval
#: is for the rest. A negative one would send their heads early, and lose an answer that is faster than the end of its
#: request (golang/go#40747): one of a hundred to a long prompt. The Host of a client means nothing to LiteLLM.
_FORWARDING = {"passHostHeader": False, "responseForwarding": {"flushInterval": "100ms"}}


def _forwarding(service: str) -> dict[str, Any]:
    return {"serversTransport": "ccproxy-words" if service == "ccproxy-words" else "ccproxy", **_FORWARDING}


def _transport(dial: str, first: str) -> dict[str, Any]:
    """Bound the dialling, not the *first* byte of an answer: a model may load for minutes before its first word, and stream
    for an hour.

    No idle connections: one kept open to a worker that is killed would lose the next request sent on it.
    """
    return {"maxIdleConnsPerHost": -1, "forwardingTimeouts": {"dialTimeout": dial, "responseHeaderTimeout": first}}
