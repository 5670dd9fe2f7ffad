"""LiteLLM's environment: read as files first, and started only when nothing speaks against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.deploy.advisories import advisories
from ccproxy_supervisor.deploy.doctor.finding import Finding, Level, Scene, fail, ok, skip, warn
from ccproxy_supervisor.deploy.environments import broken_interpreter
from ccproxy_supervisor.deploy.inspection import inspect
from ccproxy_supervisor.edge.home import ROTATE, everything, litellm_version, packages, weaknesses

REPAIR = "ccproxy-supervisor upgrade --repair"
SHOWN = 3
#: Where a Python looks for certificate authorities, read without running what its packages would have run at its start.
TRUST = """import os, ssl
paths = ssl.get_default_verify_paths()
print(paths.cafile or (paths.capath if paths.capath and os.listdir(paths.capath) else ""))"""
IMPORT, IMPORT_TIME = "import litellm.proxy.proxy_server", 90.0  # seconds; 6 on an idle machine


def litellm(scene: Scene) -> Iterator[Finding]:
    python = scene.settings.proxy.python
    environment = scene.home.path(python).parent.resolve().parent
    sound = True
    for finding in _files(scene, environment):
        sound = sound and finding.level is not Level.FAIL
        yield finding
    if isinstance(scene.plan, ConfigError):
        yield skip("whether LiteLLM starts", "the configuration cannot be used")
    elif not sound:
        yield skip("whether LiteLLM starts", "not tried: starting it would run what was found")
    else:
        yield _start(scene, scene.plan)


def certificates(scene: Scene) -> Iterator[Finding]:
    """Whether each interpreter can tell who answers an https:// address: python.org's can only once it was helped."""
    pythons: dict[str, tuple[str, dict[str, str] | None]] = {"the supervisor's Python": (scene.python, None)}
    if not isinstance(scene.plan, ConfigError):
        birth = scene.plan.birth
        pythons["LiteLLM's Python"] = (birth.python, dict(birth.env))
    for whose, (python, env) in pythons.items():
        ran = scene.run(python, "-I", "-S", "-c", TRUST, env=env)
        if ran.status:  # that it does not start is told elsewhere
            continue
        if found := ran.out.strip():
            yield ok(f"{whose} knows certificate authorities", found)
            continue
        remedy = "open '/Applications/Python 3.x/Install Certificates.command'; or set SSL_CERT_FILE"
        remedy += " (LiteLLM: in proxy.env) to what `python -m certifi` names"
        yield warn(f"{whose} knows no certificate authority: some https:// upstreams fail", python, remedy)


def _files(scene: Scene, environment: Path) -> Iterator[Finding]:
    broken = broken_interpreter(environment)
    if broken:
        yield fail("LiteLLM's interpreter is broken", broken, REPAIR)
        return
    version = litellm_version(str(environment / "bin/python"))
    if version is None:
        yield fail("LiteLLM is not installed", f"nothing of it in {environment}", "ccproxy-supervisor init")
        return
    known, found = advisories(scene.settings.upgrade.denied), packages(environment)
    for reason in known.denied(found):
        yield fail("a package is malicious or denied", reason, f"ccproxy-supervisor upgrade, and {ROTATE}")
    for about in known.known(found):
        yield warn(f"LiteLLM {version}, or what came with it, is vulnerable", about, "ccproxy-supervisor upgrade")
    for place, why in weaknesses(everything(str(environment)))[:SHOWN]:
        message, _, remedy = why.partition("; run: ")
        yield fail("LiteLLM's environment could be changed by others", f"{place}: {message}", remedy)
    faults = inspect(environment)
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        yield fail("the environment holds what no package put there", "; ".join(faults[:SHOWN]) + more, REPAIR)
    else:
        yield ok(f"LiteLLM {version}: every file is its package's own", str(environment))


def _start(scene: Scene, plan: Plan) -> Finding:
    ran = scene.run(plan.birth.python, "-c", IMPORT, timeout=IMPORT_TIME, env=dict(plan.birth.env))
    if ran.status:
        return fail("LiteLLM cannot be imported", ran.said.splitlines()[-1], REPAIR)
    return ok("the interpreter starts and imports LiteLLM", plan.birth.python)
