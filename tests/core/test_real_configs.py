"""Configs as LiteLLM's documentation shows them; tests/e2e/test_configs.py has LiteLLM itself read the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy_supervisor.core.litellm import parse_litellm

CONFIGS = Path(__file__).parents[1] / "configs"
#: Every variable that they refer to.
KEYS = tuple(
    f"{who}_{what}"
    for who in ("AZURE", "OPENAI", "ANTHROPIC", "GROQ", "GEMINI", "COHERE", "AWS")
    for what in ("API_KEY", "API_KEY_EU", "API_KEY_CA", "API_BASE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
)
#: Files that only others include, or that are meant to be warned of.
PARTS = ("beside_the_first", "without_models")


def include(source, name):
    path = CONFIGS / Path(source).parent / name
    path = path if path.exists() else CONFIGS / name
    return str(path.relative_to(CONFIGS)), path.read_text()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_litellm_takes_is_taken(path):
    config = parse_litellm(path.read_text(), dict.fromkeys(KEYS, "x"), path.name, include=include)

    assert config.warnings == () or path.stem in PARTS
    assert config.models or path.stem in PARTS


def test_nested_and_empty_includes_are_followed_as_litellm_follows_them():
    config = parse_litellm((CONFIGS / "included.yaml").read_text(), {}, "included.yaml", include=include)

    assert [model.name for model in config.models] == ["first", "second", "third", "fourth"]
    assert config.models[0].api_base == "http://127.0.0.1:9/v1"
