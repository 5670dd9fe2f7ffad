"""What the supervisor hands out beside itself."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ccproxy_supervisor.cli import main

ROOT = Path(__file__).parents[2]


def call(*words):
    return CliRunner().invoke(main, ["files", *map(str, words)])


def test_every_file_of_config_and_launchd_is_listed():
    listed = call().output.splitlines()
    config = [str(path.relative_to(ROOT / "config")) for path in (ROOT / "config").rglob("*") if path.is_file()]
    launchd = [f"launchd/{path.name}" for path in (ROOT / "launchd").iterdir()]
    assert listed == sorted(name for name in [*config, *launchd] if "__pycache__" not in name)


def test_what_pip_has_compiled_beside_them_is_none_of_them(tmp_path, monkeypatch):
    for name in ("config/echo.py", "config/__pycache__/echo.cpython-311.pyc", "launchd/README.md"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    monkeypatch.setattr("ccproxy_supervisor.cli.files.resources", lambda _: tmp_path)
    assert call().output == "echo.py\nlaunchd/README.md\n"


def test_a_file_is_printed_as_it_is():
    assert call("traefik/traefik.yaml").output == (ROOT / "config/traefik/traefik.yaml").read_text()


def test_a_folder_is_copied_for_nobody_else(tmp_path):
    result = call("prometheus", "--to", tmp_path / "new")
    assert result.exit_code == 0
    copied = tmp_path / "new/prometheus/rules/ccproxy-alerts.yml"
    assert copied.read_text() == (ROOT / "config/prometheus/rules/ccproxy-alerts.yml").read_text()
    assert copied.stat().st_mode & 0o777 == 0o600
    assert copied.parent.stat().st_mode & 0o077 == 0


def test_what_is_there_already_is_kept(tmp_path):
    (tmp_path / "echo.py").write_text("mine")
    assert call("echo.py", "--to", tmp_path).output == f"kept {tmp_path}/echo.py: it is there already\n"
    assert (tmp_path / "echo.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["prometeus", "prometheus/rule", "../pyproject.toml", ""])
def test_what_is_not_in_the_list_is_misuse(name):
    assert call(name).exit_code == 2


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    result = call("echo.py", "--to", tmp_path / "file/under")
    assert (result.exit_code, result.output) == (1, f"cannot write {tmp_path}/file/under/echo.py: Not a directory\n")


@pytest.mark.parametrize("page", ["README.md", "docs/MONITORING.md", "docs/TRAEFIK.md", "docs/MACOS.md"])
def test_the_docs_name_files_that_are_handed_out(page):
    listed = call().output.splitlines()
    for name in re.findall(r"ccproxy-supervisor files ([a-z./]+)", (ROOT / page).read_text()):
        assert [each for each in listed if each == name or each.startswith(f"{name}/")], name
