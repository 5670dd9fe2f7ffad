"""The daemon with real LiteLLM and the configuration that is shipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from daemon import ROOT, Daemon

ACTOR = ROOT / "tests" / "actor.py"
MADE = ROOT / ".cache" / "home" / "venv" / "bin" / "python"


def interpreter() -> str:
    """The Python that has LiteLLM; raises `FileNotFoundError` with the remedy."""
    named = os.environ.get("CCPROXY_TEST_LITELLM")
    path = Path(named) if named else MADE
    if not path.exists():
        why = "CCPROXY_TEST_LITELLM names it" if named else "run: make litellm"
        raise FileNotFoundError(f"no LiteLLM: '{path}' does not exist; {why}")
    return str(path)


def shipped(*models: dict[str, Any], **changes: Any) -> str:
    """The shipped LiteLLM config with the `actor` model and *models* added, and *changes* to its sections."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    config["model_list"] += [{"model_name": "actor", "litellm_params": {"model": "actor/actor"}}, *models]
    actor = {"provider": "actor", "custom_handler": "actor.handler"}
    config["litellm_settings"]["custom_provider_map"].append(actor)
    for section, values in changes.items():
        config[section] = {**config.get(section, {}), **values}
    return yaml.safe_dump(config)


def real(litellm: str | None = None, folder: Path | None = None, **settings: dict[str, Any]) -> Daemon:
    """A daemon, not started yet. Patient, for LiteLLM starts in ten seconds on a busy machine."""
    daemon = Daemon(interpreter(), litellm or shipped(), folder, health={"interval": "2s", "timeout": "5s"})
    daemon.change(proxy={"hold": "300s", "drain_timeout": "30s"}, logs={"rotate": "never"}, models={"interval": "off"})
    daemon.change(**settings)
    daemon.write("echo.py", (ROOT / "config" / "echo.py").read_text())
    daemon.write("actor.py", ACTOR.read_text())
    return daemon


def typed(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command for the home of *daemon*, as a person would."""
    line = [sys.executable, "-m", "ccproxy_supervisor", *words, "--config", str(daemon.home.settings_file)]
    return subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
