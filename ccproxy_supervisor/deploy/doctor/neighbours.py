"""The programs on both sides: Ollama behind, Traefik in front."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ccproxy_supervisor.core.answer import Answer
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.ollama import lacking, read_models, read_version, wanted
from ccproxy_supervisor.core.values import is_loopback
from ccproxy_supervisor.deploy import traefik as front
from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, ok, skip, warn
from ccproxy_supervisor.deploy.tokens import TokenError, load


def ollama(scene: Scene) -> Iterator[Finding]:
    if scene.written is None:
        yield skip("Ollama", "without usable settings its address is not known")
        return
    settings = scene.written.ollama
    names = () if isinstance(scene.plan, ConfigError) else wanted(scene.plan.litellm.models, settings.url)
    if not settings.enabled:
        yield skip("Ollama", "ollama.enabled is false")
        return
    answer = scene.ask(f"{settings.url.rstrip('/')}/api/version", settings.timeout)
    if not isinstance(answer, Answer):
        level = fail if names else warn
        yield level("Ollama is not reachable", f"{settings.url}: {answer.detail}", "start it: ollama serve, or its app")
    else:
        yield from _version(answer, settings.url)
        yield from _models(scene, settings.url, settings.timeout, names)
        if isinstance(scene.plan, ConfigError):
            yield skip("the models that are asked of Ollama", "the configuration cannot be used")
    yield from _ollama_host(scene, settings.url)


def _version(answer: Answer, url: str) -> Iterator[Finding]:
    try:
        yield ok(f"Ollama {read_version(answer.body)} answers", url)
    except ValueError as error:
        yield fail("what answers at ollama.url is not Ollama", f"{url}: {error}", "correct ollama.url")


def _models(scene: Scene, url: str, timeout: float, names: tuple[str, ...]) -> Iterator[Finding]:
    answer = scene.ask(f"{url.rstrip('/')}/api/tags", timeout)
    try:
        present = read_models(answer.body) if isinstance(answer, Answer) else ()
    except ValueError:
        present = ()
    missing = lacking(names, present)
    for name in missing:
        yield fail(f"Ollama lacks {name}", f"it has: {', '.join(present) or 'nothing'}", f"ollama pull {name}")
    if names and not missing:
        yield ok("Ollama has every model of LiteLLM's config", ", ".join(names))


def _ollama_host(scene: Scene, url: str) -> Iterator[Finding]:
    """Ollama's app takes the variable from launchd, a terminal from the shell."""
    told = scene.program("launchctl", "getenv", "OLLAMA_HOST")
    sources = {"launchctl getenv": told.out.strip() if told and told.status == 0 else ""}
    sources["the environment"] = scene.environ.get("OLLAMA_HOST", "")
    for source, value in sources.items():
        if not value:
            continue
        host, port = _address(value)
        evidence = f"OLLAMA_HOST is {value} ({source})"
        if not is_loopback(host):
            yield warn("Ollama may be open to the network", evidence, "launchctl unsetenv OLLAMA_HOST; restart Ollama")
        if port != (urlsplit(url).port or 80):
            yield warn(
                "Ollama may listen elsewhere than ollama.url says", f"{evidence}, ollama.url {url}", "make them agree"
            )


def _address(value: str) -> tuple[str, int | None]:
    """Read OLLAMA_HOST as Ollama does: a bare host means port 11434, http:// means 80, https:// 443, and a port
    without a host every address of the machine."""
    try:
        parts = urlsplit(value if "://" in value else f"//{value}")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 11434)
    except ValueError:
        return value, None
    return parts.hostname or ("" if parts.port is not None else "127.0.0.1"), port


def traefik(scene: Scene) -> Iterator[Finding]:
    answer = scene.ask(f"{scene.traefik}/v1/models", 5.0)
    if not isinstance(answer, Answer):
        remedy = "start it; its files: ccproxy-supervisor traefik, and docs/TRAEFIK.md"
        yield warn("Traefik is not reachable", f"{scene.traefik}: {answer.detail}", remedy)
    elif answer.status == 401:
        yield ok("Traefik refuses a request without a token", f"{scene.traefik} answered 401")
    elif answer.status < 300:
        evidence = f"{scene.traefik} answered {answer.status} without a token"
        yield fail(
            "the front door is open to everybody", evidence, "write its routes again: ccproxy-supervisor traefik"
        )
    else:
        evidence = f"{scene.traefik} answered {answer.status} instead of 401 without a token"
        yield warn("Traefik does not use our routes", evidence, "see docs/TRAEFIK.md")


def routes(scene: Scene) -> Iterator[Finding]:
    """What Traefik was given, against settings, tokens and key of today; nothing while it was given nothing."""
    if scene.written is None:
        return
    try:
        ledger = load(front.ledger_file(scene.home))
        path = front.output(scene.home, ledger)
        if not path.exists():
            return
        stale = front.stale(scene.home, scene.written, ledger)
    except (ConfigError, TokenError) as error:
        yield fail("Traefik's routes cannot be compared", str(error), "mend it, then: ccproxy-supervisor traefik")
        return
    if stale:
        evidence = f"{path} is not what settings, tokens and key ask for now"
        yield warn("Traefik's routes are out of date", evidence, "ccproxy-supervisor traefik")
    else:
        yield ok("Traefik's routes are up to date", f"{path}; tokens: {len(ledger.tokens)}")
