from __future__ import annotations

import pytest

from ccproxy_supervisor.core import command
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.litellm import parse_litellm
from ccproxy_supervisor.core.needs import canonical, unmet
from ccproxy_supervisor.core.rules import Rules
from ccproxy_supervisor.core.settings import parse

ONE = "model_list: [{model_name: m, litellm_params: {model: openai/gpt}}]\n"
SPANS = {"opentelemetry-sdk", "opentelemetry-exporter-otlp"}


def judged(more, installed=()):
    try:
        parse_litellm(ONE + more, {}, rules=Rules({}, frozenset(), lambda: "", frozenset(installed)))
    except ConfigError as error:
        return [str(fault).removeprefix("config.yaml:") for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("more", "where", "packages"),
    [
        ("litellm_settings: {callbacks: [prometheus]}", "callbacks[0]: prometheus", {"prometheus-client"}),
        ("litellm_settings: {success_callback: [a.b, langfuse]}", "success_callback[1]: langfuse", {"langfuse"}),
        ("litellm_settings: {failure_callback: [sentry]}", "failure_callback[0]: sentry", {"sentry-sdk"}),
        (
            "litellm_settings: {service_callback: [prometheus]}",
            "service_callback[0]: prometheus",
            {"prometheus-client"},
        ),
        ("litellm_settings: {callbacks: otel}", "callbacks: otel", SPANS),
        ("litellm_settings: {cache: true, cache_params: {type: disk}}", "cache_params.type: disk", {"diskcache"}),
    ],
)
def test_an_integration_is_named_with_the_package_that_it_needs(more, where, packages):
    told = judged(more)

    assert len(told) == len(packages)
    assert all(line.startswith(f"2: litellm_settings.{where} needs the package ") for line in told)
    assert {line.split("needs the package ")[1].split(",")[0] for line in told} == packages
    assert all("add it to proxy.packages and run: ccproxy-supervisor upgrade" in line for line in told)
    assert judged(more, packages) == []


@pytest.mark.parametrize(
    "more", ["litellm_settings: {callbacks: [mine.handler, datadog, 5, {a: 1}]}", "litellm_settings: {cache_params: {type: disk}}", "litellm_settings: 5"]
)  # fmt: skip
def test_what_litellm_brings_along_needs_nothing(more):
    assert judged(more) == []


def test_nothing_is_missing_from_an_environment_that_nobody_knows():
    assert parse_litellm(ONE + "litellm_settings: {callbacks: [prometheus]}", {}).integrations == {"prometheus"}


def test_a_database_is_refused_in_words():
    (told,) = judged("general_settings:\n  database_url: postgresql://a/b\n")

    assert told.startswith("3: general_settings.database_url: a database is not supported here: ")
    assert "proxy.auth: master-key" in told
    assert judged("general_settings: {database_url: null, store_model_in_db: false}") == []


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("DATABASE_URL", "postgresql://x", "a database is not supported"),
        ("DIRECT_URL", "postgresql://x", "a database is not supported"),
        ("IAM_TOKEN_DB_AUTH", "True", "a database is not supported"),
        ("USE_AWS_KMS", "True", "only LiteLLM's own command decrypts"),
        ("LITELLM_CONFIG_BUCKET_NAME", "b", "set proxy.config"),
    ],
)
def test_variables_that_only_litellms_command_acts_upon_are_refused(name, value, why):
    assert why in command.refused(name, value)
    assert command.refused(name, "") is None
    assert why in judged(f"environment_variables: {{{name}: {value}}}")[0]


@pytest.mark.parametrize("value", ["False", "0", "no"])
def test_a_switch_that_is_off_is_no_matter(value):
    assert command.refused("USE_AWS_KMS", value) is None


def test_variables_that_do_nothing_are_told_with_what_does():
    assert list(command.unheard({"PORT": "1", "OPENAI_API_KEY": "k"})) == [
        ("PORT", "only LiteLLM's own command reads this; set proxy.port")
    ]
    config = parse_litellm(ONE + "environment_variables:\n  NUM_WORKERS: 4\n", {})
    assert [str(warning) for warning in config.warnings] == [
        "config.yaml:3: environment_variables.NUM_WORKERS: only LiteLLM's own command reads this; set proxy.workers"
    ]


@pytest.mark.parametrize(
    "name", ["prometheus-client", "a", "Lang_Fuse[x,y]>=4.7,<5", "opentelemetry-sdk==1.33.1", "a~=1.0", "a!=2.*"]
)
def test_packages_are_names_and_versions(name):
    assert parse(f"proxy: {{packages: ['{name}']}}").proxy.packages == (name,)


@pytest.mark.parametrize(
    "name",
    ["", "-r x", "--index-url=http://x", "git+https://x/y", "https://x/y.whl", "./here", "/abs", "a @ https://x", "a; python_version>'3'", "a b", "a>", "a==1 --hash=x", "a.whl/../b", "a\nb"],
)  # fmt: skip
def test_a_package_is_nothing_else(name):
    with pytest.raises(ConfigError, match=r"proxy\.packages\[0\]: must be the name of a package"):
        parse(f"proxy: {{packages: [{name!r}]}}")


def test_a_package_is_known_by_its_canonical_name():
    assert [canonical(name) for name in ("Prometheus_Client>=1", "a.b-c", "x[y]==1", "")] == [
        "prometheus-client",
        "a-b-c",
        "x",
        "",
    ]
    assert list(unmet(("Prometheus_Client>=1", "langfuse"), {"prometheus-client"})) == [
        "langfuse is not in LiteLLM's environment yet; run: ccproxy-supervisor upgrade"
    ]
