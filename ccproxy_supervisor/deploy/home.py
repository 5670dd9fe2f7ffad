"""A new home: its folders and the default configuration. What is there is kept."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from importlib.resources import files
from pathlib import Path

import anyio
import yaml

from ccproxy_supervisor.core.answer import Answer
from ccproxy_supervisor.core.ollama import read_models
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.deploy.fleet import authority
from ccproxy_supervisor.deploy.litellm import Say
from ccproxy_supervisor.edge.fetch import fetch
from ccproxy_supervisor.system.files import put

FILES = ("supervisor.yaml", "config.yaml", "echo.py")
OLLAMA = "http://127.0.0.1:11434"
FOLDERS = ("", "logs", "run", "venvs")


def prepare(home: Path, say: Say) -> None:
    """Make what is missing in *home*, for nobody but us."""
    for name in FOLDERS:
        folder = home / name
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            say(f"made {folder}")
        elif folder.stat().st_mode & 0o077 and folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)
            say(f"closed {folder} to other users")
    for name in FILES:
        if not os.path.lexists(home / name):
            default = (files("ccproxy_supervisor") / "data" / "config" / name).read_text()
            added = anyio.run(ollama_models) if name == "config.yaml" else ""
            put(home / name, (default + added).encode())
            say(f"wrote {home / name}" + (" with Ollama's models" if added else ""))


async def ollama_models(url: str = OLLAMA) -> str:
    """Return entries for the `model_list` that ends LiteLLM's config: what the Ollama beside us has, if it answers."""
    answer = await fetch(f"{url}/api/tags", timeout=2)
    try:
        names = read_models(answer.body) if isinstance(answer, Answer) else ()
    except ValueError:
        return ""
    entries = [
        {
            "model_name": name.removesuffix(":latest"),
            "litellm_params": {"model": f"ollama_chat/{name}", "api_base": url},
        }
        for name in names
    ]
    return "\n" + textwrap.indent(yaml.safe_dump(entries, sort_keys=False), "  ") if entries else ""


def question(home: Path, plan: Plan) -> str:
    """The command that asks the first model something, for a person to copy."""
    name = plan.litellm.models[0].name if plan.litellm.models else "MODEL"
    asked = {"model": name, "max_tokens": 50, "stream": True}
    body = json.dumps(asked | {"messages": [{"role": "user", "content": "Hello"}]}, separators=(",", ":"))
    proxy = plan.settings.proxy
    key = f'-H "x-api-key: $(cat {shlex.quote(str(home / "master.key"))})" ' if proxy.auth == "master-key" else ""
    url = f"http://{authority(proxy.host, proxy.port)}/v1/messages"
    return f"curl -N {url} {key}-H 'content-type: application/json' -d {shlex.quote(body)}"
