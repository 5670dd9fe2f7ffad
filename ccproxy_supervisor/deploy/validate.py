"""LiteLLM's own opinion of its config, with the traps in it stepped around."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ccproxy_supervisor.core.plan import Plan

TIMEOUT = 120.0  # seconds; it imports the whole proxy


def validate(plan: Plan, timeout: float = TIMEOUT) -> str | None:
    """Run `litellm --validate_config` as a worker would; return what is wrong, or None.

    It exits 0 for a config whose models it dropped, with a traceback on stderr: that counts as wrong here.
    """
    birth = plan.birth
    entry = "from litellm.proxy.proxy_cli import run_server; run_server()"
    command = [birth.python, "-c", entry, "--config", birth.config, "--validate_config"]
    try:
        done = subprocess.run(
            command, env=dict(birth.env), capture_output=True, text=True, errors="replace", timeout=timeout,
            check=False, cwd=Path(birth.config).parent, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"cannot validate {birth.config}: LiteLLM took longer than {timeout:.0f} s"
    except OSError as error:
        return f"cannot validate {birth.config}: {error}"
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    if done.returncode or "Traceback" in done.stderr or "(0 models)" in done.stdout:
        return f"LiteLLM refuses {birth.config}: {lines[-1] if lines else f'status {done.returncode}'}"
    return None
