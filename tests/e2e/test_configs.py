"""Real LiteLLM reads the configs that tests/core/test_real_configs.py has the supervisor read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from test_real_configs import CONFIGS, KEYS, include

from ccproxy_supervisor.core.litellm import parse_litellm

READ = """
import asyncio, json, os, sys
from litellm.proxy.proxy_server import ProxyConfig
async def read(path):
    router, _, _ = await ProxyConfig().load_config(router=None, config_file_path=path)
    return [(model["model_name"], model["litellm_params"]["model"]) for model in router.model_list or ()]
async def main():
    print("FOUND", json.dumps({path: await read(path) for path in sys.argv[1:]}), flush=True)
    os._exit(0)  # tasks of LiteLLM's that nothing cancels
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def read_by_litellm(litellm):
    files = sorted(str(path) for path in CONFIGS.glob("*.yaml"))
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        **dict.fromkeys(KEYS, "http://127.0.0.1:9"),
    }
    done = subprocess.run(
        [litellm, "-c", READ, *files], env=env, capture_output=True, text=True, timeout=540, check=False
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), None)
    assert line, done.stderr[-4000:]
    return json.loads(line.removeprefix("FOUND "))


def test_litellm_takes_them_all_and_has_the_models_that_we_read(read_by_litellm):
    for path, found in read_by_litellm.items():
        ours = parse_litellm(Path(path).read_text(), dict.fromkeys(KEYS, "x"), Path(path).name, include=include)
        # an entry for several organizations is several deployments
        assert dict.fromkeys(map(tuple, found)) == dict.fromkeys((m.name, m.upstream) for m in ours.models), path
