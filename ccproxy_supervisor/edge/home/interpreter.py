"""LiteLLM's interpreter and its environment, looked at without starting anything."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import lru_cache, partial
from glob import escape, glob
from pathlib import Path

from ccproxy_supervisor.core.rules import Rules, rules
from ccproxy_supervisor.edge.home.denied import packages


def litellm_version(python: str) -> str | None:
    """Read it from the file names of the environment: running its interpreter takes seconds, and may run malware."""
    prefix = os.path.dirname(os.path.dirname(python))
    found = glob(os.path.join(escape(prefix), "lib", "python*", "site-packages", "litellm-*.dist-info"))
    return os.path.basename(max(found))[len("litellm-") : -len(".dist-info")] if found else None


def python_version(python: str) -> tuple[int, int] | None:
    """Of the environment of *python*, by the name of its folder; None when that does not say."""
    sites = glob(os.path.join(escape(os.path.dirname(os.path.dirname(python))), "lib", "python3.*", "site-packages"))
    versions = {re.sub(r"\D", "", os.path.basename(os.path.dirname(site)).partition(".")[2]) for site in sites}
    return (3, int(versions.pop() or 0)) if len(versions) == 1 else None


def cost_map(python: str) -> str:
    """Read LiteLLM's list of models in the environment of *python*; empty when it cannot be."""
    prefix = os.path.dirname(os.path.dirname(python))
    name = "model_prices_and_context_window_backup.json"
    found = glob(os.path.join(escape(prefix), "lib", "python*", "site-packages", "litellm", name))
    try:
        return Path(max(found)).read_text()
    except (OSError, ValueError):  # no such file, or not text
        return ""


def litellm_rules(python: str, version: str | None) -> Rules | None:
    """What LiteLLM in the environment of *python* takes, by its own files; None where it has none. Runs nothing."""
    known = _rules(python, version)
    return known and replace(known, installed=frozenset(packages(Path(python).parents[1])))


@lru_cache(maxsize=2)
def _rules(python: str, _version: str | None) -> Rules | None:
    prefix = os.path.dirname(os.path.dirname(python))
    found = glob(os.path.join(escape(prefix), "lib", "python*", "site-packages", "litellm"))
    try:
        folder = Path(max(found))
        read = partial(Path.read_text, encoding="utf-8")
        types = read(folder / "types/router.py"), read(folder / "types/utils.py")
        providers = read(folder / "llms/openai_like/providers.json")
        return rules(types, providers, read(folder / "__init__.py"), partial(cost_map, python))
    except (OSError, ValueError):  # another version's files: nothing is judged, the newcomer itself will tell
        return None


def interpreter_fault(python: Path) -> str | None:
    """Say why *python*, of a virtual environment, is not what that was made with; None when all is well. Starts nothing."""
    real, environment = os.path.realpath(python), python.parent.parent
    if not os.path.exists(real):
        return f"it links to {real}, which is gone" if os.path.islink(python) else "it is gone"
    made_with = {os.path.basename(os.path.dirname(path)) for path in environment.glob("lib/python3*/site-packages")}
    now = re.fullmatch(r"python3\.\d+t?", os.path.basename(real))
    if now and made_with and now[0] not in made_with and os.path.exists(environment / "pyvenv.cfg"):
        return f"it is {now[0]} now, and its packages are for {', '.join(sorted(made_with))}"
    return None
