"""What a newer supervisor is had by, told by what each tool leaves; and the formula, against what is locked."""

import re
from pathlib import Path

import pytest

from ccproxy_supervisor.deploy import installed

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _by_nobody(monkeypatch):
    def missing(name):
        raise installed.PackageNotFoundError(name)

    monkeypatch.setattr(installed, "distribution", missing)


@pytest.mark.parametrize(
    ("left", "command"),
    [
        ("tools/ccproxy-supervisor/uv-receipt.toml", "uv tool upgrade ccproxy-supervisor && ccproxy-supervisor renew"),
        ("venvs/ccproxy-supervisor/pipx_metadata.json", "pipx upgrade ccproxy-supervisor && ccproxy-supervisor renew"),
        (
            "Cellar/ccproxy-supervisor/0.2.0/libexec/pyvenv.cfg",
            "brew upgrade ccproxy-supervisor && ccproxy-supervisor renew",
        ),
    ],
)
def test_each_tool_is_known_by_what_it_leaves(tmp_path, left, command):
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).touch()
    assert installed.tool((tmp_path / left).parent).command == command


def test_a_build_of_make_is_known_also_by_the_link_to_it(tmp_path):
    (tmp_path / ".venvs/20261125-120000").mkdir(parents=True)
    (tmp_path / "Makefile").touch()
    (tmp_path / ".venv").symlink_to(".venvs/20261125-120000")
    assert installed.tool(tmp_path / ".venv").command == f"cd {tmp_path} && git pull && make renew"


def test_anything_else_is_pip_s_whose_python_is_named(tmp_path):
    assert (
        installed.tool(tmp_path).command
        == f"{tmp_path}/bin/python -m pip install --upgrade ccproxy-supervisor && ccproxy-supervisor renew"
    )


def test_sources_that_are_only_referred_to_are_pulled(tmp_path, monkeypatch):
    class Editable:
        def read_text(self, name):
            return '{"url": "file:///src/ccproxy", "dir_info": {"editable": true}}'

    monkeypatch.setattr(installed, "distribution", lambda name: Editable())
    assert installed.tool(tmp_path).command == "cd /src/ccproxy && git pull && make renew"


def test_the_homebrew_formula_is_what_is_locked():
    """If not: make formula."""
    formula = (ROOT / "Formula/ccproxy-supervisor.rb").read_text()
    resources = re.findall(r'resource "(.+)" do\n\s+url "(.+)"\n\s+sha256 "(.+)"', formula)
    locked = {
        name: (version, set(re.findall(r"sha256:(\w+)", hashes)))
        for name, version, hashes in re.findall(
            r"^([\w.-]+)==(\S+)[^\n]*\\\n((?:    --hash.*\n)+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
        )
    }
    del locked["setuptools"]  # builds it, and is fetched by who builds
    assert {name for name, _, _ in resources} == set(locked)
    for name, url, sha in resources:
        version, hashes = locked[name]
        assert f"-{version}" in url
        assert sha in hashes
