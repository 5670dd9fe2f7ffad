from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccproxy_supervisor.core.changes import leaves
from ccproxy_supervisor.core.document import read
from ccproxy_supervisor.core.litellm import parse_litellm
from ccproxy_supervisor.core.settings import Settings, parse

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLE = "  # - model_name:"


def test_the_shipped_settings_are_the_defaults():
    assert parse((CONFIG / "supervisor.yaml").read_text()) == Settings()


def test_the_shipped_settings_name_every_key():
    document = read((CONFIG / "supervisor.yaml").read_text(), "supervisor.yaml")

    written = {".".join(map(str, path)) for path in document.lines}
    assert set(leaves(Settings())) <= written


def test_every_section_that_is_not_plain_is_explained():
    lines = (CONFIG / "supervisor.yaml").read_text().splitlines()

    explained = sum("#" in line for line in lines if ":" in line)
    assert explained > 40


def test_the_shipped_litellm_config_has_models_that_need_nothing():
    config = parse_litellm((CONFIG / "config.yaml").read_text(), {})

    told = [(model.name, model.mock, model.ollama) for model in config.models]
    assert told == [("echo", False, None), ("mock", True, None), ("claude-*", False, None)]
    assert (CONFIG / "echo.py").is_file()
    assert config.warnings == ()


def test_the_examples_in_the_shipped_litellm_config_work():
    text = (CONFIG / "config.yaml").read_text()
    start = text.index(EXAMPLE)
    examples = [line for line in text[start:].splitlines() if line.startswith(("  # -", "  #   "))]
    whole = text[:start] + "\n".join("  " + line[4:] for line in examples)

    config = parse_litellm(whole, {"OPENAI_API_KEY": "x"}, auth="master-key")

    assert len(config.models) == 3 + text.count(EXAMPLE) > 4
    assert [model.ollama for model in config.models if model.ollama] == ["llama3.2"]
    assert config.warnings == ()


def test_model_list_comes_last_so_that_models_can_be_added_at_the_end():
    keys = [line for line in (CONFIG / "config.yaml").read_text().splitlines() if line[:1].isalpha()]

    assert keys[-1] == "model_list:"


@pytest.fixture
def echo(monkeypatch):
    """The shipped module, with LiteLLM's names in place."""
    names = {"CustomLLM": object, "ModelResponse": object}
    monkeypatch.setitem(sys.modules, "litellm", SimpleNamespace(**names))
    spec = importlib.util.spec_from_file_location("echo", CONFIG / "echo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REMINDER = {"type": "text", "text": "<system-reminder>\nAs you answer the user's questions …"}
NOTE = {"type": "text", "text": "Operator note (not from the user): the following was originally a mid-conversation …"}


@pytest.mark.parametrize(
    "messages",
    [
        [("user", "say hi")],
        [("user", "first"), ("assistant", "You said: first"), ("user", "say hi")],
        [("user", [REMINDER, {"type": "text", "text": "say hi"}])],
        [
            ("user", [{"type": "text", "text": "say hi"}, REMINDER]),
            ("user", [NOTE, {"type": "text", "text": "Agents …"}]),
        ],
        [("user", "say hi"), ("assistant", None), ("tool", "a result")],
        [("user", [{"type": "text", "text": "say hi"}, {"type": "image_url", "image_url": {"url": "x"}}])],
        [("user", "say hi"), ("user", [{"type": "tool_result", "content": "x"}]), ("user", None)],
    ],
)  # as Claude Code, Codex and opencode were seen to ask
def test_echo_says_back_what_a_person_typed_last(echo, messages):
    assert echo.said([{"role": role, "content": content} for role, content in messages]) == "You said: say hi"


def test_echo_of_nothing_typed_says_so(echo):
    assert echo.said([{"role": "system", "content": "x"}]) == "You said nothing."
