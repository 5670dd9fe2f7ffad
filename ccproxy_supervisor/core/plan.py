"""Everything that was read and checked: the settings, LiteLLM's config, and what a worker is born with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from ccproxy_supervisor.core.contacts import Contacts
from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.core.litellm import MASTER_KEY, LiteLLMConfig
from ccproxy_supervisor.core.secrets import SHORTEST
from ccproxy_supervisor.core.settings import ProxySettings, Settings

COUNTERS = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client adds up what several processes count
CONFIG = "CONFIG_FILE_PATH"  # where LiteLLM looks for its config
#: What a worker takes over from the daemon's environment: launchd, a terminal and a test give it the same rest.
INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
#: No .env files, no downloads at start, no line in the log for each probe; the operator may set all of them.
DEFAULTS = {
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_DISABLE_ACCESS_LOG_PATHS": "/health/liveliness,/health/readiness,/health",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
}
_TELLING = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sources:
    """The texts that a worker is born from: *read* by their paths, and as they are *kept* for it, by their paths below the
    config's folder, the config first."""

    read: tuple[tuple[str, str], ...] = ()
    kept: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Birth:
    """What only a new process can take on. Two births are the same when their *digest* is."""

    python: str
    config: str
    env: tuple[tuple[str, str], ...] = field(repr=False)
    digest: str
    auth: str = "open"
    litellm_version: str | None = None
    sources: Sources = field(default_factory=Sources, repr=False)

    def differs(self, new: Birth) -> tuple[str, ...]:
        """Name what *new* brings that the settings do not show; never a value."""
        before, after = dict(self.sources.read), dict(new.sources.read)
        parts = {path: before.get(path) == after.get(path) for path in after | before}
        parts |= {
            "LiteLLM's version": self.litellm_version == new.litellm_version,
            "the interpreter": self.python == new.python,
            "the workers' environment": self.env == new.env,
        }
        return tuple(f"{part} changed" for part, same in parts.items() if not same)

    @property
    def key(self) -> str | None:
        """The master key that probes must send; None when LiteLLM is open."""
        return dict(self.env).get(MASTER_KEY)


@dataclass(frozen=True, slots=True)
class Plan:
    """One readable, checked state of the home folder. *secrets* must not reach any log."""

    settings: Settings
    litellm: LiteLLMConfig
    birth: Birth
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    warnings: tuple[Fault, ...] = ()
    contacts: Contacts = field(default_factory=Contacts)


def worker_env(
    inherited: Mapping[str, str], config: str, written: Mapping[str, str], key: str | None
) -> dict[str, str]:
    """Build the complete environment of a worker; *written* is what the operator set, *key* None opens LiteLLM."""
    env = DEFAULTS | {name: inherited[name] for name in INHERITED if name in inherited} | dict(written)
    env[CONFIG] = config
    env.pop(MASTER_KEY, None)
    return env | ({MASTER_KEY: key} if key else {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"})


def birth(python: str, config: str, sources: Sources, env: Mapping[str, str], auth: str, version: str | None) -> Birth:
    """Fix what a worker is born with."""
    complete = tuple(sorted(env.items()))
    whole = [python, config, sources.read, sources.kept, complete, auth, version]
    return Birth(python, config, complete, sha256(json.dumps(whole).encode()).hexdigest(), auth, version, sources)


def own_key(secret: Mapping[str, str], proxy: ProxySettings) -> str | None:
    """The master key the operator wrote into the env file, if any; raises `ConfigError`."""
    key = secret.get(MASTER_KEY)
    if key is None or (proxy.auth == "master-key" and key.startswith("sk-")):
        return key
    advice = "must start with sk-"
    if proxy.auth == "open":
        advice = "makes LiteLLM demand a key; remove it, or set proxy.auth: master-key"
    raise ConfigError([Fault(str(proxy.env_file), f"{MASTER_KEY} {advice}")])


def too_short(secret: Mapping[str, str], source: str) -> list[Fault]:
    """Name what cannot be hidden: it would blot out half of every log line."""
    lines = {name: value.splitlines() for name, value in secret.items()}
    short = [name for name, values in lines.items() if any(0 < len(line) < SHORTEST for line in values)]
    advice = f"has fewer than {SHORTEST} characters and is not hidden in logs; set it in proxy.env if it is no secret"
    return [Fault(source, f"{name} {advice}") for name in short]


def secrets(key: str | None, secret: Mapping[str, str], plain: Mapping[str, str]) -> tuple[bytes, ...]:
    """List what must be hidden: *key*, all of *secret*, and of *plain* what is named like a secret; longest first."""
    values = (key or "", *secret.values(), *(value for name, value in plain.items() if _TELLING.search(name)))
    lines = {line for value in values for line in value.splitlines() if len(line) >= SHORTEST}
    return tuple(line.encode() for line in sorted(lines, key=lambda line: (-len(line), line)))
