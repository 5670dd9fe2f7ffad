"""The self-test's service: the real daemon with the real LiteLLM under a launchd that behaves like one."""

import os
import subprocess
import sys

import pytest

import fake_launchctl
from ccproxy_supervisor.edge.preload import FORKS_LIVE
from daemon import ROOT

LITELLM = ROOT / ".cache/home/venv/bin/python"
pytestmark = pytest.mark.real


def test_a_service_is_tried_forks_are_seen_to_live_and_nothing_is_left(tmp_path):
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True, mode=0o700)
    (home / "supervisor.yaml").write_text(f"proxy: {{python: {LITELLM}}}\n")
    variables = fake_launchctl.put_on_path(tmp_path / "launchd")
    env = os.environ | variables | {"HOME": str(tmp_path), "CCPROXY_HOME": str(home)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ccproxy_supervisor", "selftest"],
            env=env,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    finally:
        fake_launchctl.shut_down(variables)
    said = done.stdout + done.stderr

    for line in ("✓ service: ", "✓ forked-workers: 20 of 20 requests", "✓ survival: 3 of 3 requests", "✓ removal: "):
        assert line in done.stdout, said
    assert (home / FORKS_LIVE).exists()
    assert list((tmp_path / "launchd/state").glob("*.json")) == []
    assert str(tmp_path) not in done.stdout
