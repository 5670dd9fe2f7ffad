"""What the operator may say in `supervisor.yaml`, checked once, frozen for ever."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ccproxy_supervisor.core import values
from ccproxy_supervisor.core.changes import Change, changes
from ccproxy_supervisor.core.complaints import complaints
from ccproxy_supervisor.core.document import Document, read
from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.core.impossible import impossible
from ccproxy_supervisor.core.units import Duration, GiB, IntervalOrOff, MiB, Size, Timeout

__all__ = ["Change", "Settings", "changes", "examine", "parse", "schema"]

Text = Annotated[str, AfterValidator(values.text), Field(json_schema_extra={"minLength": 1})]
Host = Annotated[str, AfterValidator(values.host)]
Version = Annotated[str, AfterValidator(values.version), Field(json_schema_extra={"pattern": f"^{values.VERSION}$"})]
Package = Annotated[str, AfterValidator(values.package)]
Port = Annotated[int, Field(ge=1, le=65535)]
Switch = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(values.switch),
    Field(json_schema_extra={"enum": ["auto", "on", "off", True, False]}),
]
Target = Annotated[str, AfterValidator(values.target)]
Reference = Annotated[str, AfterValidator(values.reference)]
Variables = dict[Annotated[str, AfterValidator(values.own_variable)], Annotated[str, AfterValidator(values.no_nul)]]


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class FlightSettings(_Strict):
    """How many requests each worker lets in at once; more wait in line, the clients in turn."""

    models: dict[Text, Annotated[int, Field(ge=1, le=10_000)]] = Field({}, max_length=200)
    """By the name that is asked for, or a pattern: `*` is each model that is not named. Empty: no limit."""
    client: int | None = Field(None, ge=1)
    """Of a model's requests at most so many for one client."""
    queue: int = Field(64, ge=0, le=10_000)
    """So many more wait for a model; the next ones are answered 429."""
    wait: Timeout = 60.0
    """Who has waited for so long is answered 429."""


class ProxySettings(_Strict):
    """LiteLLM: its workers and the address they serve."""

    python: Text = "venv/bin/python"
    """Interpreter that has litellm[proxy]."""
    config: Annotated[str, AfterValidator(values.yaml_file)] = "config.yaml"
    """LiteLLM's own configuration."""
    host: Host = "127.0.0.1"
    """Address to listen on; loopback only, unless allow_remote is true."""
    port: Port = 8081
    """Port to listen on."""
    allow_remote: bool = False
    """Let proxy.host be an address other machines can reach."""
    workers: int = Field(1, ge=1, le=64)
    """LiteLLM processes that serve."""
    standby: int = Field(0, ge=0, le=64)
    """Further LiteLLM processes kept warm, to take over at once."""
    auth: Literal["open", "master-key"] = "open"
    """`open`: no key (localhost only); `master-key`: a generated key that every client must send."""
    env: Variables = Field({}, repr=False)
    """Environment variables of the workers. Secrets belong in env_file."""
    env_file: Text | None = None
    """File of KEY=VALUE lines for the workers; must be 0600 and ours."""
    preload: Switch = "auto"
    """Import LiteLLM once and fork the workers from there; `auto`: where forked workers are known to live."""
    start_timeout: Timeout = 120.0
    """A worker that is not ready by then is killed and started again."""
    drain_timeout: Timeout = 30.0
    """How long a worker may finish what is in flight."""
    kill_timeout: Timeout = 5.0
    """From SIGTERM to SIGKILL."""
    orphan_grace: Duration = 60.0
    """How long workers go on serving without a supervisor, for the next one to take them on; 0s: they leave at once."""
    hold: Duration = 15.0
    """How long clients wait for a worker before they are answered 503; at the start as long as the first one starts."""
    keep_alive: IntervalOrOff = 30.0
    """A stream that LiteLLM has not begun for so long is begun, with signs of life until it does. `off`: never."""
    max_memory: Size | None = None
    """Replace a worker that uses more."""
    max_age: Timeout | None = None
    """Replace a worker that is older."""
    max_in_flight: FlightSettings = FlightSettings()
    packages: tuple[Package, ...] = ()
    """What LiteLLM's environment has besides litellm[proxy], by name and version; `upgrade` puts it there."""


class RestartSettings(_Strict):
    """How long to wait before a worker that died is started again."""

    first_delay: Duration = 0.5
    """After the first death."""
    factor: float = Field(2.0, ge=1)
    """Each further delay is this many times the one before."""
    longest_delay: Duration = 30.0
    """Delays grow no further."""
    jitter: float = Field(0.1, ge=0, le=1)
    """Each delay is longer or shorter by at most this share."""
    stable_after: Duration = 60.0
    """A worker that served for so long starts again from first_delay."""


class HealthSettings(_Strict):
    """Each worker is asked on its private socket whether it is alive."""

    interval: Timeout = 5.0
    timeout: Timeout = 3.0
    """To answer; a worker that is ready, at most until it is asked again (but a second)."""
    failures: int = Field(3, ge=1)
    """So many in a row, and the worker is replaced."""
    successes: int = Field(2, ge=1)
    """So many in a row, and a new worker is ready."""
    stalled: IntervalOrOff = 120.0
    """Completions wait in a worker and none of them goes on for so long: it is compared with another. `off`: never."""


class ModelSettings(_Strict):
    """Each model is asked for a few tokens through LiteLLM."""

    interval: IntervalOrOff = 300.0
    """`off`: never ask."""
    timeout: Timeout = 60.0
    only_loaded: bool = True
    """Ask Ollama's models only while Ollama has them loaded."""
    paid: bool = False
    """Ask also those that cost money: what is neither on this machine, nor in the private network, nor LiteLLM's own."""
    check: tuple[Text, ...] = ()
    """Names to ask all the same, whatever they cost or do."""


class HelpSettings(_Strict):
    """What may be done for an Ollama that is stuck, the mildest first; nothing, unless it is allowed here."""

    after: Timeout = 30.0
    """It must have been stuck for so long before the first step, and after each one before the next."""
    unload: bool = False
    """Have it unload its models."""
    restart_runner: bool = False
    """End the process that runs the model, if it is this user's; Ollama starts another one."""
    restart_command: tuple[Text, ...] = ()
    """Program and arguments that restart Ollama itself; no shell."""
    timeout: Timeout = 60.0
    """For restart_command."""
    patience: Timeout = 1800.0
    """A runner that computes, or may not be looked at, is left alone for so long, whoever waits for it."""


class OllamaSettings(_Strict):
    """Ollama is asked for its version, its models and those it has loaded."""

    enabled: bool = True
    url: Annotated[str, AfterValidator(values.url)] = "http://127.0.0.1:11434"
    interval: Timeout = 15.0
    timeout: Timeout = 5.0
    preload: tuple[Text, ...] = ()
    """Models of LiteLLM's config to be loaded when Ollama is there, and again when it was restarted."""
    help: HelpSettings = HelpSettings()


class LogSettings(_Strict):
    """The four log files and how they are rotated."""

    directory: Text = "logs"
    max_size: Size = 50 * MiB
    """A file is rotated when it would grow larger."""
    rotate: Literal["hourly", "daily", "weekly", "never"] = "weekly"
    """Also rotate by local time; weekly means Monday 00:00."""
    keep: int = Field(8, ge=1)
    """Rotated files kept of each log."""
    max_total: Size = GiB
    """All log files together; the oldest rotated ones go first."""
    compress: bool = True
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Of this daemon's own log."""


class AdminSettings(_Strict):
    """Status and metrics on loopback, orders on a Unix socket."""

    host: Host = "127.0.0.1"
    port: Port = 8082
    socket: Text = "run/control.sock"
    allowed_hosts: tuple[Host, ...] = ()
    """Names besides the loopback ones that a request's Host header may carry."""


class FleetMember(_Strict):
    """One machine that Traefik and Prometheus should know of."""

    host: Host
    port: Port = 8080
    admin_port: Port | None = None
    """Where its metrics are; none: where its requests go, for the admin port itself is on its loopback only."""


class TraefikSettings(_Strict):
    """What the front door offers."""

    paths: tuple[Annotated[str, AfterValidator(values.url_path)], ...] = ()
    """Further paths of LiteLLM's that clients may ask for, `/v1/images/generations` or `/v1/audio/*`."""


class UpgradeSettings(_Strict):
    """How LiteLLM itself is replaced."""

    canary_model: Text | None = None
    """Model a new version must answer for; null: the first mock or local one."""
    denied: tuple[Version, ...] = ()
    """Versions never to install, each by its name, besides those known to be malicious."""
    keep: int = Field(2, ge=1)
    """Environments kept, the running one included."""
    wait: Duration = 604800.0
    """How long a release, and all that comes with it, must have been out before `upgrade --latest` takes it."""


class NotifyTarget(_Strict):
    """One way to tell somebody."""

    kind: Literal["webhook", "slack", "ntfy", "pushover", "macos", "command"]
    url: Target | None = None
    """Of webhook, slack and ntfy; `os.environ/NAME` where it is a secret, as Slack's is."""
    token: Reference | None = None
    """Of webhook, ntfy and pushover: `os.environ/NAME`."""
    user: Reference | None = None
    """Of pushover: `os.environ/NAME`."""
    command: tuple[Text, ...] = ()
    """Program and arguments; it finds CCPROXY_EVENT, CCPROXY_TITLE and CCPROXY_TEXT in its environment."""
    urgent: bool = False
    """Also in quiet hours, when nobody is served."""


class NotifySettings(_Strict):
    """Who is told when an incident begins, and when it is over."""

    targets: tuple[NotifyTarget, ...] = ()
    env_file: Text | None = None
    """File of KEY=VALUE lines with the secrets of targets and heartbeat; must be 0600 and ours."""
    quiet: Annotated[str, AfterValidator(values.quiet)] | None = None
    """Hours of the local time, such as 22:00-07:00, whose notices come as one when they end."""


class HeartbeatSettings(_Strict):
    """A URL that is asked for as long as requests are served: its silence alarms when this machine is dead."""

    url: Target | None = None
    interval: Timeout = 60.0


class Settings(_Strict):
    """All of `supervisor.yaml`."""

    proxy: ProxySettings = ProxySettings()
    restart: RestartSettings = RestartSettings()
    health: HealthSettings = HealthSettings()
    models: ModelSettings = ModelSettings()
    ollama: OllamaSettings = OllamaSettings()
    logs: LogSettings = LogSettings()
    admin: AdminSettings = AdminSettings()
    fleet: tuple[FleetMember, ...] = ()
    """The machines behind one Traefik; empty: only this one."""
    traefik: TraefikSettings = TraefikSettings()
    upgrade: UpgradeSettings = UpgradeSettings()
    notify: NotifySettings = NotifySettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()


def parse(text: str, source: str = "supervisor.yaml") -> Settings:
    """Read settings; raises `ConfigError` with every fault."""
    settings, faults = examine(text, source)
    if faults or settings is None:
        raise ConfigError(faults)
    return settings


def examine(text: str, source: str) -> tuple[Settings | None, list[Fault]]:
    """Read as much as can be: faulty settings count as not written; None when nothing can be said."""
    try:
        document = read(text, source)
    except ConfigError as error:
        return None, list(error.faults)
    data = {} if document.value is None else document.value
    if not isinstance(data, dict):
        return None, [document.fault((), "must be a mapping of settings, such as `proxy:`")]
    data = {key: value for key, value in data.items() if value is not None or key not in Settings.model_fields}
    settings, faults = _validate(data, document)
    wrong = {fault.path for fault in faults}
    if settings is None:  # what is left may still be an impossible combination
        settings, _ = _validate(_without(data, wrong), document)
    for path, others, message in impossible(settings) if settings else ():
        if not any(f"{part}.".startswith(f"{bad}.") for part in (path, *others) for bad in wrong):
            faults.append(document.fault(tuple(path.split(".")), message))
    return settings, sorted((*faults, *document.faults), key=lambda fault: fault.line or 0)


def _validate(data: dict[str, Any], document: Document) -> tuple[Settings | None, list[Fault]]:
    try:
        return Settings.model_validate(data, context={"written": True}), []
    except ValidationError as error:
        return None, complaints(error, document, Settings)


def _without(data: dict[str, Any], wrong: set[str]) -> dict[str, Any]:
    """Drop the settings at the paths *wrong*, the whole list where it is inside one."""
    roots = {".".join(path.split("[")[0].split(".")[:2]) for path in wrong}
    return {
        section: {key: leaf for key, leaf in value.items() if f"{section}.{key}" not in roots}
        if isinstance(value, dict)
        else value
        for section, value in data.items()
        if section not in roots
    }


def schema() -> dict[str, Any]:
    """Describe `supervisor.yaml` as JSON Schema, for editors."""
    described = Settings.model_json_schema()
    written = Settings().model_dump(mode="json")
    for section, field in Settings.model_fields.items():
        if isinstance(written[section], dict) and isinstance(field.annotation, type):
            properties = described["$defs"][field.annotation.__name__]["properties"]
            for key, value in written[section].items():
                properties[key]["default"] = value
                if (inner := properties[key].pop("$ref", "")) and isinstance(value, dict):
                    for name, leaf in value.items():
                        described["$defs"][inner.rpartition("/")[2]]["properties"][name]["default"] = leaf
                    properties[key] |= {"$ref": inner, "default": {}}
            described["properties"][section]["default"] = {}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}
