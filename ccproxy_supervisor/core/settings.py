"""What the operator may say in `supervisor.yaml`, checked once, frozen for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ccproxy_supervisor.core.document import read
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.units import Duration, GiB, IntervalOrOff, MiB, Size, Timeout


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class ProxySettings(_Strict):
    python: str = "venv/bin/python"
    config: str = "config.yaml"
    host: str = "127.0.0.1"
    port: int = Field(8081, ge=1, le=65535)
    allow_remote: bool = False
    workers: int = Field(1, ge=1, le=64)
    standby: int = Field(0, ge=0, le=64)
    auth: Literal["open", "master-key"] = "open"
    env: dict[str, str] = Field({}, repr=False)
    env_file: str | None = None
    start_timeout: Timeout = 120.0
    drain_timeout: Timeout = 30.0
    kill_timeout: Timeout = 5.0
    hold: Duration = 15.0
    max_memory: Size | None = None
    max_age: Timeout | None = None


class RestartSettings(_Strict):
    first_delay: Duration = 0.5
    factor: float = Field(2.0, ge=1)
    longest_delay: Duration = 30.0
    jitter: float = Field(0.1, ge=0, le=1)
    stable_after: Duration = 60.0


class HealthSettings(_Strict):
    interval: Timeout = 5.0
    timeout: Timeout = 3.0
    failures: int = Field(3, ge=1)
    successes: int = Field(2, ge=1)


class ModelSettings(_Strict):
    interval: IntervalOrOff = 300.0
    timeout: Timeout = 60.0
    only_loaded: bool = True


class OllamaSettings(_Strict):
    enabled: bool = True
    url: str = "http://127.0.0.1:11434"
    interval: Timeout = 15.0
    timeout: Timeout = 5.0


class LogSettings(_Strict):
    directory: str = "logs"
    max_size: Size = 50 * MiB
    rotate: Literal["hourly", "daily", "weekly", "never"] = "weekly"
    keep: int = Field(8, ge=1)
    max_total: Size = GiB
    compress: bool = True
    level: Literal["debug", "info", "warning", "error"] = "info"


class AdminSettings(_Strict):
    host: str = "127.0.0.1"
    port: int = Field(8082, ge=1, le=65535)
    socket: str = "run/control.sock"
    allowed_hosts: tuple[str, ...] = ()


class FleetMember(_Strict):
    host: str
    port: int = Field(8080, ge=1, le=65535)
    admin_port: int = Field(8082, ge=1, le=65535)


class UpgradeSettings(_Strict):
    canary_model: str | None = None
    denied: tuple[str, ...] = ()
    keep: int = Field(2, ge=1)


class Settings(_Strict):
    proxy: ProxySettings = ProxySettings()
    restart: RestartSettings = RestartSettings()
    health: HealthSettings = HealthSettings()
    models: ModelSettings = ModelSettings()
    ollama: OllamaSettings = OllamaSettings()
    logs: LogSettings = LogSettings()
    admin: AdminSettings = AdminSettings()
    fleet: tuple[FleetMember, ...] = ()
    upgrade: UpgradeSettings = UpgradeSettings()


def parse(text: str, source: str = "supervisor.yaml") -> Settings:
    """Read settings; raises `ConfigError` with every fault."""
    document = read(text, source)
    try:
        return Settings.model_validate(document.value or {}, context={"written": True})
    except ValidationError as error:
        faults = [document.fault(tuple(e["loc"]), e["msg"]) for e in error.errors()]
        raise ConfigError([*document.faults, *faults]) from None


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs, *old* and *new* as people write them; see `changes` for *kind*."""

    path: str
    old: Any
    new: Any
    kind: Literal["adopt", "roll", "fixed"]

    def __str__(self) -> str:
        return f"{self.path} changed" if self.path == "proxy.env" else f"{self.path}: {self.old} -> {self.new}"


ROLL = frozenset({"proxy.python", "proxy.config", "proxy.auth", "proxy.env", "proxy.env_file"})
FIXED = frozenset({"proxy.host", "proxy.port", "admin.host", "admin.port", "admin.socket"})


def changes(old: Settings, new: Settings) -> tuple[Change, ...]:
    """List what differs; kind says whether it is adopted in place, needs new workers, or a restart of the daemon."""
    before, after = leaves(old), leaves(new)
    return tuple(
        Change(path, before[path], after[path], "fixed" if path in FIXED else "roll" if path in ROLL else "adopt")
        for path in before
        if before[path] != after[path]
    )


def leaves(settings: Settings) -> dict[str, Any]:
    """Every setting by its dotted path, as people write it."""
    found: dict[str, Any] = {}
    for section, value in settings.model_dump(mode="json").items():
        if isinstance(value, dict):
            found |= {f"{section}.{key}": leaf for key, leaf in value.items()}
        else:
            found[section] = value
    return found
