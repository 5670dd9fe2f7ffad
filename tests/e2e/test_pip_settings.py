"""The real pip, and a person who told it much."""

from __future__ import annotations

import pytest

from ccproxy_supervisor.deploy import locks, pip
from ccproxy_supervisor.deploy.environments import Environments
from ccproxy_supervisor.deploy.litellm import install
from ccproxy_supervisor.edge.home import packages
from wheels import release

pytestmark = pytest.mark.real
SAID = """
[global]
user = true
require-hashes = true
[install]
target = {0}
prefix = {0}
root = {0}
dry-run = true
no-deps = true
"""


def test_settings_of_pip_do_not_change_what_is_installed_nor_where(tmp_path, monkeypatch):
    config, away, venvs = tmp_path / "pip.conf", tmp_path / "away", tmp_path / "venvs"
    config.write_text(SAID.format(away))
    venvs.mkdir()
    release(tmp_path, "9.0.0")
    settings = {"CONFIG_FILE": config, "FIND_LINKS": tmp_path, "NO_INDEX": 1, "REQUIRE_HASHES": 1, "DRY_RUN": 1}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))

    lock = locks.from_report(pip.resolve("litellm==9.0.0", print))
    new = install(Environments(tmp_path), "9.0.0", lock, lambda python, lock: pip.install(python, lock, print), print)

    assert packages(new.path) == {"litellm": "9.0.0"}
    assert not away.exists()
