from __future__ import annotations

import json
import os
import shlex
import stat
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ccproxy_supervisor.cli.home import init
from ccproxy_supervisor.core.settings import Settings, parse
from ccproxy_supervisor.deploy.home import FILES, prepare, question
from ccproxy_supervisor.edge.home import Home

ROOT = Path(__file__).parents[2]


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_a_new_home_is_for_us_alone_and_holds_the_defaults(tmp_path):
    said = []

    prepare(tmp_path / "new" / "home", said.append)

    home = tmp_path / "new" / "home"
    assert [mode(home / name) for name in ("", "logs", "run", "venvs")] == ["0o700"] * 4
    assert [mode(home / name) for name in FILES] == ["0o600"] * len(FILES)
    assert parse((home / "supervisor.yaml").read_text()) == Settings()
    assert Home(home / "supervisor.yaml").check_permissions(Settings()) == []
    assert said == [
        *(f"made {home / name}" for name in ("", "logs", "run", "venvs")),
        *(f"wrote {home / n}" for n in FILES),
    ]


@pytest.mark.parametrize("name", FILES)
def test_the_package_carries_the_files_of_the_config_folder(name):
    assert (files("ccproxy_supervisor") / "data/config" / name).read_bytes() == (ROOT / "config" / name).read_bytes()


def test_no_home_is_made_where_others_could_replace_it(tmp_path):
    tmp_path.chmod(0o777)

    result = CliRunner().invoke(init, [str(tmp_path / "h"), "--no-litellm"])

    assert result.exit_code == 78
    assert f"cannot make a home there: {tmp_path}: every user could put something else there" in result.output
    assert not (tmp_path / "h").exists()


def test_a_new_home_has_traefik_s_routes_and_lets_nobody_in(tmp_path):
    """A Traefik that is started before there is a file answers 404 until it is started again."""
    result = CliRunner().invoke(init, [str(tmp_path / "h"), "--no-litellm"])

    file = tmp_path / "h/traefik/dynamic.yaml"
    assert result.exit_code == 0
    assert f"wrote {file}" in result.output
    assert mode(file) == "0o600"
    assert list(yaml.safe_load(file.read_text())["http"]["routers"]) == ["ccproxy-hello", "ccproxy-deny"]
    file.write_text("mine")
    CliRunner().invoke(init, [str(tmp_path / "h"), "--no-litellm"])
    assert file.read_text() == "mine"


def test_what_is_there_is_kept(tmp_path):
    prepare(tmp_path, [].append)
    (tmp_path / "supervisor.yaml").write_text("proxy: {port: 1}\n")
    said = []

    prepare(tmp_path, said.append)

    assert said == []
    assert (tmp_path / "supervisor.yaml").read_text() == "proxy: {port: 1}\n"


def test_a_link_that_leads_nowhere_yet_is_kept_too(tmp_path):
    (tmp_path / "config.yaml").symlink_to("elsewhere.yaml")

    prepare(tmp_path, [].append)

    assert (tmp_path / "config.yaml").is_symlink()
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_a_home_that_others_may_read_is_closed_to_them(tmp_path):
    tmp_path.chmod(0o755)
    said = []

    prepare(tmp_path, said.append)

    assert mode(tmp_path) == "0o700"
    assert said[0] == f"closed {tmp_path} to other users"


def test_init_takes_the_home_from_its_argument_or_the_environment(tmp_path):
    first = CliRunner().invoke(init, [str(tmp_path / "a"), "--no-litellm"])
    second = CliRunner().invoke(init, ["--no-litellm"], env={"CCPROXY_HOME": str(tmp_path / "b")})

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert os.listdir(tmp_path / "a") == os.listdir(tmp_path / "b")


def test_a_place_where_no_home_can_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    result = CliRunner().invoke(init, [str(tmp_path / "file" / "home"), "--no-litellm"])

    assert result.exit_code == 1
    assert result.stderr == f"cannot make {tmp_path}/file/home: Not a directory: {tmp_path}/file/home\n"


@pytest.mark.parametrize(("auth", "key"), [("open", ()), ("master-key", ("-H", "x-api-key: $(cat {home}/master.key)"))])
def test_the_line_to_try_asks_the_first_model_where_litellm_listens(tmp_path, auth, key):
    prepare(tmp_path, [].append)
    (tmp_path / "supervisor.yaml").write_text(f"proxy: {{port: 20555, auth: {auth}}}\n")
    plan = Home(tmp_path / "supervisor.yaml").read_plan({"PATH": "/bin"}, sys.executable)

    words = shlex.split(question(tmp_path, plan))

    assert words[:3] == ["curl", "-N", "http://127.0.0.1:20555/v1/messages"]
    assert tuple(words[3:-4]) == tuple(word.format(home=tmp_path) for word in key)
    assert json.loads(words[-1])["model"] == plan.litellm.models[0].name
