from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.core.litellm import Model, parse_litellm, same_model

ONE = "model_list: [{model_name: m, litellm_params: {model: openai/gpt}}]\n"


def faults(text, env=(), auth="open", include=None):
    with pytest.raises(ConfigError) as raised:
        parse_litellm(textwrap.dedent(text), dict(env), auth=auth, include=include)
    return [str(fault).removeprefix("config.yaml:") for fault in raised.value.faults]


def test_models_are_read_in_order_and_a_name_may_be_there_twice():
    config = parse_litellm(
        textwrap.dedent(
            """\
            model_list:
              - model_name: echo
                litellm_params: {model: hosted_vllm/echo, mock_response: hi}
              - model_name: llama
                litellm_params: {model: ollama_chat/llama3.2, api_base: "http://127.0.0.1:11434"}
              - model_name: llama
                litellm_params: {model: ollama/Llama2:7B, api_base: os.environ/OLLAMA}
              - model_name: all
                litellm_params: {model: ollama/*, api_base: "http://h"}
              - model_name: named
                litellm_params: {model: gemma3, custom_llm_provider: ollama, api_base: "http://h"}
            """
        ),
        {"OLLAMA": "http://mini:11434"},
    )

    assert config.models == (
        Model("echo", "hosted_vllm/echo", mock=True),
        Model("llama", "ollama_chat/llama3.2", "llama3.2", "http://127.0.0.1:11434"),
        Model("llama", "ollama/Llama2:7B", "Llama2:7B", "http://mini:11434"),
        Model("all", "ollama/*", None, "http://h"),
        Model("named", "gemma3", "gemma3", "http://h", provider="ollama"),
    )
    assert config.warnings == ()


def test_an_ollama_model_without_its_address_is_warned_of_and_found_by_the_environment():
    config = parse_litellm(
        "model_list:\n- model_name: m\n  litellm_params: {model: ollama/llama2}\n", {"OLLAMA_API_BASE": "http://mini"}
    )

    assert config.models[0].api_base == "http://mini"
    assert [str(warning) for warning in config.warnings] == [
        "config.yaml:3: model_list[0].litellm_params: without api_base every worker starts its own `ollama serve`; name Ollama's address"
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("llama2", "llama2:latest", True),
        ("LLama2", "llama2:LATEST", True),
        ("llama2:7b", "llama2", False),
        ("library/llama2", "registry.ollama.ai/library/llama2:latest", True),
        ("hf.co/user/repo", "hf.co/user/repo:latest", True),
        ("host:5000/llama2", "host:5000/llama2:latest", True),
        ("llama2", "llama3", False),
    ],
)
def test_ollama_takes_names_for_the_same_model_by_tag_and_case(one, other, same):
    assert same_model(one, other) is same
    assert same_model(other, one) is same


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", [" must be a mapping with a model_list"]),
        ("- a", ["1: must be a mapping with a model_list"]),
        ("# nothing", [" must be a mapping with a model_list"]),
        ("model_list: {a: 1}", ["1: model_list: must be a list"]),
        ("model_list: [x]", ["1: model_list[0]: must be a mapping with model_name and litellm_params"]),
        (
            "model_list:\n- litellm_params: {model: a}\n- model_name: ''\n  litellm_params: {model: a}\n",
            [
                "2: model_list[0].model_name: must be the name clients ask for",
                "3: model_list[1].model_name: must be the name clients ask for",
            ],
        ),
        (
            "model_list:\n- model_name: a\n- model_name: b\n  litellm_params:\n- model_name: c\n  litellm_params: {modl: x}\n",
            [
                "2: model_list[0].litellm_params: must be a mapping with a model",
                "4: model_list[1].litellm_params: must be a mapping with a model",
                "6: model_list[2].litellm_params.model: must be provider/model, such as ollama_chat/llama3.2",
            ],
        ),
        (ONE + ONE, ["2: model_list: is there twice, first on line 1"]),
        ("model_list: a: b", ["1:14: cannot read YAML"]),
        (ONE + "include: a.yaml", ["2: include: must be a list"]),
        (ONE + "include:", ["2: include: must be a list"]),
        (ONE + "include: [1]", ["2: include: must be a list of files"]),
        (ONE + 'include: ["a\\0b"]', ["2: include: must be a list of files"]),
    ],
)
def test_a_broken_structure_is_told_with_its_line(text, told):
    assert [line[: len(start)] for line, start in zip(faults(text), told, strict=True)] == told


def test_every_variable_that_is_not_set_is_named_wherever_it_stands():
    told = faults(
        """\
        model_list:
          - model_name: a
            litellm_params:
              model: openai/a
              api_key: os.environ/OPENAI_API_KEY
          - model_name: b
            litellm_params: {model: openai/b, api_key: os.environ/SET}
        general_settings:
          nested: [{deep: os.environ/DEEP}]
        environment_variables:
          FROM_HERE: x
        litellm_settings: {a: os.environ/FROM_HERE}
        """,
        env={"SET": ""},
    )

    assert told == [
        "5: model_list[0].litellm_params.api_key: OPENAI_API_KEY is not set; set it in the proxy.env_file",
        "9: general_settings.nested[0].deep: DEEP is not set; set it in the proxy.env_file",
    ]


def test_variables_are_not_judged_when_the_environment_is_not_known_or_a_secret_manager_may_have_them():
    text = ONE + "litellm_settings: {a: os.environ/X}\n"

    assert faults(text)
    assert parse_litellm(text, None).models
    assert parse_litellm(text + "general_settings: {key_management_system: aws_kms}", {}).models


@pytest.mark.parametrize("value", ["sk-hunter2", "os.environ/LITELLM_MASTER_KEY", "os.environ/OTHER"])
def test_an_open_proxy_must_not_demand_a_key(value):
    told = faults(ONE + f"general_settings:\n  master_key: {value}\n")

    assert told == [
        "3: general_settings.master_key: makes LiteLLM demand a key nobody has; remove it, or set proxy.auth: master-key"
    ]


@pytest.mark.parametrize("settings", ["{}", "{master_key: null}", "{master_key: os.environ/LITELLM_MASTER_KEY}"])
def test_with_a_master_key_the_config_names_the_supervisors_or_none(settings):
    assert parse_litellm(ONE + f"general_settings: {settings}", {}, auth="master-key").models


@pytest.mark.parametrize("value", ["sk-hunter2", "os.environ/OTHER", "5"])
def test_with_a_master_key_no_other_key_is_allowed(value):
    (told,) = faults(ONE + f"general_settings: {{master_key: {value}}}\n", auth="master-key")

    assert told.startswith("2: general_settings.master_key: must be os.environ/LITELLM_MASTER_KEY or absent")
    assert "hunter2" not in told


def test_the_key_must_not_come_by_the_back_door():
    (told,) = faults(ONE + "environment_variables: {LITELLM_MASTER_KEY: sk-1}\n", auth="master-key")

    assert told.startswith("2: environment_variables.LITELLM_MASTER_KEY: belongs to the supervisor")


def test_a_misspelt_section_is_a_warning():
    config = parse_litellm(ONE + "litelm_settings: {}\nassistant_settings: {}\nfiles_settings: {}\n", {})

    assert [str(warning) for warning in config.warnings] == [
        "config.yaml:2: litelm_settings: LiteLLM ignores this; did you mean litellm_settings?"
    ]


FILES = {
    "sub/a.yaml": "include: [b.yaml, ../config.yaml]\nmodel_list: [{model_name: a, litellm_params: {model: x/a}}]",
    "sub/b.yaml": "include: [a.yaml]\nmodel_list: [{model_name: b, litellm_params: {model: x/b, api_key: os.environ/K}}]",
    "broken.yaml": "model_list: a: b",
}


def include(source, name):
    path = f"sub/{name}" if source.startswith("sub/") else name
    path = "config.yaml" if name.startswith("..") else path
    if path != "config.yaml" and path not in FILES:
        raise ConfigError([Fault(path, "cannot read it")])
    return path, FILES.get(path, "")


def test_included_files_count_and_loops_end():
    config = parse_litellm("include: [sub/a.yaml]", {"K": "1"}, include=include)

    assert [model.name for model in config.models] == ["a", "b"]


def test_faults_of_included_files_carry_their_names():
    told = faults("include: [sub/a.yaml, gone.yaml, broken.yaml]", include=include)

    assert [line.split(" ")[0] for line in told] == ["gone.yaml:", "broken.yaml:1:14:", "sub/b.yaml:2:"]


@pytest.mark.parametrize(
    ("text", "line"), [("litellm_settings: {}", 1), ("a: 1\nmodel_list: []", 2), ("a: 1\nmodel_list:", 2)]
)
def test_no_models_are_a_warning_for_litellm_starts_without_any(text, line):
    config = parse_litellm(text, {})

    assert config.models == ()
    assert [str(warning) for warning in config.warnings] == [
        f"config.yaml:{line}: model_list: has no models; LiteLLM answers for none"
    ]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "{}", "[]"])
def test_an_included_file_may_be_empty(text):
    config = parse_litellm(ONE + "include: [a.yaml]\n", {}, include=lambda *_: ("a.yaml", text))

    assert [model.name for model in config.models] == ["m"]
    assert config.warnings == ()


def test_variables_count_wherever_they_are_set_and_are_for_the_worker_to_be_born_with():
    text = ONE.replace("gpt", "gpt, api_key: os.environ/K, api_base: os.environ/BASE") + "include: [a.yaml]\n"
    more = "environment_variables: {K: s3cret, BASE: os.environ/OUTER, PORT: 6379, ON: true, GONE: os.environ/OUTER}\n"
    env = {"OUTER": "http://h", "PORT": "1"}

    config = parse_litellm(text, env, include=lambda *_: ("a.yaml", more))

    assert config.models[0].api_base == "http://h"
    assert dict(config.variables) == {"K": "s3cret", "BASE": "http://h", "ON": "True", "GONE": "http://h"}
    assert "s3cret" not in repr(config)


def test_variables_that_litellm_does_not_set_are_told_of():
    config = parse_litellm(ONE + "environment_variables:\n  PATH: /x\n", {})

    assert config.variables == ()
    assert [str(warning) for warning in config.warnings] == [
        "config.yaml:3: environment_variables.PATH: LiteLLM ignores this; set it in proxy.env"
    ]
    assert faults(ONE + 'environment_variables: {"A=B": x}\n') == [
        "2: environment_variables.A=B: is no environment variable"
    ]


def test_a_section_that_an_include_replaces_is_not_judged_and_told_of():
    text = ONE + "include: [a.yaml]\ngeneral_settings:\n  master_key: sk-1\n"

    config = parse_litellm(text, {}, include=lambda *_: ("a.yaml", "\ngeneral_settings: {}\nmodel_list: []\n"))

    assert [model.name for model in config.models] == ["m"]
    assert [str(warning) for warning in config.warnings] == [
        "a.yaml:2: general_settings: replaces the one of config.yaml:3 whole; LiteLLM joins lists only"
    ]


@given(st.text() | st.text(alphabet="model_ist:[]{}-&*<!\n ' \"", max_size=80))
def test_any_text_is_a_config_or_refused(text):
    try:
        config = parse_litellm(text, {})
        assert config.models or config.warnings
    except ConfigError as error:
        assert error.faults  # noqa: PT017 - both ends are fine, anything else is not
