from __future__ import annotations

from pathlib import Path

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
    assert told == [("echo", False, None), ("mock", True, None)]
    assert (CONFIG / "echo.py").is_file()
    assert config.warnings == ()


def test_the_examples_in_the_shipped_litellm_config_work():
    text = (CONFIG / "config.yaml").read_text()
    start = text.index(EXAMPLE)
    examples = [line for line in text[start:].splitlines() if line.startswith(("  # -", "  #   "))]
    whole = text[:start] + "\n".join("  " + line[4:] for line in examples)

    config = parse_litellm(whole, {"OPENAI_API_KEY": "x"}, auth="master-key")

    assert len(config.models) == 2 + text.count(EXAMPLE) > 4
    assert [model.ollama for model in config.models if model.ollama] == ["llama3.2", "qwen3-coder:30b"]
    assert config.warnings == ()


def test_model_list_comes_last_so_that_models_can_be_added_at_the_end():
    keys = [line for line in (CONFIG / "config.yaml").read_text().splitlines() if line[:1].isalpha()]

    assert keys[-1] == "model_list:"
