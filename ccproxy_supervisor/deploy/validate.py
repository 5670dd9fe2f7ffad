"""LiteLLM's own opinion of its config: what it would refuse, and what it would leave out."""

from __future__ import annotations

import os
import subprocess
from importlib.resources import files

from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.served import dropped

TIMEOUT = 300.0  # seconds; it imports the whole proxy
_ANSWER = "CCPROXY SERVES "
#: As `litellm --validate_config` does it, but it tells what was dropped and does not wait for tasks that never end.
_LOAD = f"""
import asyncio, importlib.util, os, sys
spec = importlib.util.spec_from_file_location("served", sys.argv[2])
served = importlib.util.module_from_spec(spec)
spec.loader.exec_module(served)
heard = served.Dropped()
sys.path.append(os.path.dirname(sys.argv[1]))
from litellm.proxy.proxy_server import ProxyConfig
os.chdir(os.path.dirname(sys.argv[1]))  # not before: LiteLLM looks for modules two folders above
async def load():
    try:
        router, _, _ = await ProxyConfig().load_config(router=None, config_file_path=sys.argv[1])
    except Exception as error:
        print(f"{{type(error).__name__}}: {{error}}", file=sys.stderr, flush=True)
        os._exit(1)
    print("{_ANSWER}" + served.told(router.model_list or (), heard), flush=True)
    os._exit(0)
asyncio.run(load())
"""


def validate(plan: Plan, timeout: float = TIMEOUT) -> str | None:
    """Have LiteLLM read its config as a worker would, serving nobody; return what is wrong, or None."""
    birth = plan.birth
    helper = os.fspath(files("ccproxy_supervisor") / "launcher" / "served.py")  # type: ignore[call-overload]
    try:
        done = subprocess.run(
            [birth.python, "-c", _LOAD, birth.config, helper], env=dict(birth.env), capture_output=True, text=True,
            errors="replace", timeout=timeout, check=False, cwd="/", stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"cannot validate {birth.config}: LiteLLM took longer than {timeout:.0f} s"
    except OSError as error:
        return f"cannot validate {birth.config}: {error}"
    said = next((line for line in done.stdout.splitlines() if line.startswith(_ANSWER)), None)
    if done.returncode or said is None:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        return f"LiteLLM refuses {birth.config}: {lines[-1] if lines else f'status {done.returncode}'}"
    lost = dropped(dict(plan.litellm.expected), said.removeprefix(_ANSWER).encode())
    return "\n".join(f"LiteLLM drops model {name}: {why}" for name, why in lost.items()) or None
