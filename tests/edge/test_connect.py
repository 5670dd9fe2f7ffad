"""`connect`: what a person pastes."""

import json
import shlex
import tomllib

import pytest
import yaml
from click.testing import CliRunner

from ccproxy_supervisor.cli import main
from ccproxy_supervisor.deploy.connect import Gateway, claude
from ccproxy_supervisor.deploy.tokens import load

CONFIG = """
model_list:
  - {model_name: "claude-*", litellm_params: {model: hosted_vllm/x, mock_response: hi}}
  - {model_name: llama, litellm_params: {model: hosted_vllm/y, mock_response: hi}}
  - {model_name: qwen, litellm_params: {model: hosted_vllm/z, mock_response: hi}}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "supervisor.yaml").touch()
    (tmp_path / "config.yaml").write_text(CONFIG)
    tmp_path.chmod(0o700)
    monkeypatch.setenv("CCPROXY_HOME", str(tmp_path))
    return tmp_path


def typed(*words):
    result = CliRunner().invoke(main, ["connect", *words])
    assert result.exit_code == 0, result.output
    return result


def token(home, name="alice"):
    return load(home / "tokens.json").get(name).secret


def test_a_token_is_made_once_and_shown_again(home):
    first = typed("claude", "alice")

    assert first.stdout == (
        f"export ANTHROPIC_BASE_URL=http://127.0.0.1:8080\nexport ANTHROPIC_AUTH_TOKEN={token(home)}\nclaude\n"
    )
    assert first.stderr.startswith("alice may pass now; ")
    assert "client-alice" in (home / "traefik/dynamic.yaml").read_text()
    again = typed("claude", "alice")
    assert (again.stdout, again.stderr) == (first.stdout, "")
    assert len(load(home / "tokens.json").tokens) == 1


def test_claude_is_told_a_model_where_none_has_a_name_it_asks_for():
    told = claude(Gateway("http://x", "t", ["llama", "qwen"]))
    assert "export ANTHROPIC_MODEL=llama\nexport ANTHROPIC_SMALL_FAST_MODEL=llama\n" in told
    assert "ANTHROPIC_MODEL" not in claude(Gateway("http://x", "t", ["llama", "claude-sonnet-4-5"]))


def test_codex_reads_its_file_and_the_token_from_the_environment(home):
    file, _, words = typed("codex", "alice").stdout.partition("# into the terminal\n")
    told = tomllib.loads(file)

    assert (told["model"], told["model_provider"]) == ("llama", "ccproxy")
    provider = told["model_providers"]["ccproxy"]
    assert (provider["base_url"], provider["env_key"]) == ("http://127.0.0.1:8080/v1", "CCPROXY_TOKEN")
    assert words == f"export CCPROXY_TOKEN={token(home)}\ncodex\n"


def test_opencode_is_told_the_models_that_have_names(home):
    said = typed("opencode", "alice").stdout
    told = json.loads(said[said.index("{") : said.rindex("}") + 1])

    assert list(told["provider"]["ccproxy"]["models"]) == ["llama", "qwen"]
    assert told["model"] == "ccproxy/llama"
    assert token(home) not in json.dumps(told)
    assert said.endswith(f"export CCPROXY_TOKEN={token(home)}\nopencode\n")


def test_openai_s_sdks_read_the_environment(home):
    assert typed("openai", "alice", "--url", "https://mac.example/").stdout == (
        f"export OPENAI_BASE_URL=https://mac.example/v1\nexport OPENAI_API_KEY={token(home)}\n"
    )


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ({"address": "127.0.0.1:9000"}, "http://127.0.0.1:9000"),
        ({"address": ":8443", "http": {"tls": {}}}, "https://127.0.0.1:8443"),
        ({"address": "[::1]:8080/tcp"}, "http://[::1]:8080"),
        ({"address": "10.9.0.2:8080"}, "http://10.9.0.2:8080"),
        ({}, "http://127.0.0.1:8080"),
        (None, "http://127.0.0.1:8080"),
    ],
)
def test_the_address_is_the_one_in_the_home_s_traefik_yaml(home, entry, url):
    (home / "traefik").mkdir()
    (home / "traefik/traefik.yaml").write_text(yaml.safe_dump({"entryPoints": {"web": entry}}))

    assert f"ANTHROPIC_BASE_URL={shlex.quote(url)}\n" in typed("claude", "alice").stdout


def test_another_model_may_be_named(home):
    assert 'model = "qwen"' in typed("codex", "alice", "--model", "qwen").stdout


def test_a_name_that_cannot_be_is_refused(home):
    result = CliRunner().invoke(main, ["connect", "claude", "Not A Name"])
    assert result.exit_code == 1
    assert "cannot add token" in result.output
