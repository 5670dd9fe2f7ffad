from __future__ import annotations

import re
import textwrap

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.core import complaints
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.settings import (
    Change,
    LogSettings,
    ModelSettings,
    RestartSettings,
    Settings,
    changes,
    examine,
    parse,
    schema,
)


def faults(text):
    """All faults of *text*, one a line, without the file's name."""
    with pytest.raises(ConfigError) as raised:
        parse(textwrap.dedent(text))
    return [str(fault).removeprefix("supervisor.yaml:") for fault in raised.value.faults]


def refused(text):
    try:
        parse(text)
    except ConfigError as error:
        return error.faults
    return None


def fault(text):
    (only,) = faults(text)
    return only


def test_an_empty_file_is_all_defaults():
    assert parse("") == parse("# nothing yet\n") == parse("---\n") == Settings()


def test_an_empty_section_is_all_defaults():
    assert parse("proxy:\n  # port: 9000\nfleet:\n") == Settings()


def test_what_is_written_counts():
    settings = parse(
        """
        proxy: {drain_timeout: 1h30m, max_memory: 2GiB, max_age: 7d, env: {A: "1"}, auth: master-key}
        restart: {first_delay: 0s, factor: 2}
        logs: {max_size: 1MiB, rotate: never}
        fleet: [{host: mini-1.local}, {host: 10.0.0.2, port: 80, admin_port: 81}]
        admin: {allowed_hosts: [mini.local]}
        upgrade: {denied: ["1.82.7"]}
        """
    )

    assert settings.proxy.drain_timeout == 5400.0
    assert settings.proxy.max_memory == 2 << 30
    assert settings.proxy.max_age == 604800.0
    assert settings.proxy.env == {"A": "1"}
    assert settings.restart.first_delay == 0.0
    assert settings.logs.max_size == 1 << 20
    assert [(member.host, member.port, member.admin_port) for member in settings.fleet] == [
        ("mini-1.local", 8080, None),
        ("10.0.0.2", 80, 81),
    ]
    assert settings.admin.allowed_hosts == ("mini.local",)
    assert settings.upgrade.denied == ("1.82.7",)


@pytest.mark.parametrize("written", ["off", "'off'", "OFF", "Off"])
def test_checking_models_can_be_switched_off(written):
    assert parse(f"models: {{interval: {written}}}").models.interval is None or written == "'off'"
    assert parse("models: {interval: 'off'}").models.interval is None


def test_from_our_own_code_plain_numbers_are_seconds_and_bytes():
    assert RestartSettings(first_delay=1, longest_delay=2.5).longest_delay == 2.5
    assert LogSettings(max_size=1000).max_size == 1000
    assert ModelSettings(interval=None).interval is None


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().proxy.port = 1


def test_every_fault_is_told_at_once_with_path_line_and_nearest_key():
    told = faults(
        """\
        proxy:
          prot: 9000
          workers: many
          hold: 30
          hold: 3s
        logs:
          rotat: daily
          keep: 0
        restart:
          first_delay: 1m
        fleet:
          - host: mini
          - hots: mini
            port: 70000
        amdin: {}
        """
    )

    assert told == [
        "2: proxy.prot: unknown key; did you mean proxy.port?",
        "3: proxy.workers: must be a whole number, not 'many'",
        "4: proxy.hold: has no unit; write 30s",
        "5: proxy.hold: is there twice, first on line 4",
        "7: logs.rotat: unknown key; did you mean logs.rotate?",
        "8: logs.keep: must be at least 1",
        "10: restart.first_delay: 1m is more than restart.longest_delay (30s)",
        "13: fleet[1].host: is missing",
        "13: fleet[1].hots: unknown key; did you mean fleet[1].host?",
        "14: fleet[1].port: must be at most 65535",
        "15: amdin: unknown key; did you mean admin?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy: {port: 0}", "1: proxy.port: must be at least 1"),
        ("proxy: {port: 65536}", "1: proxy.port: must be at most 65535"),
        ("proxy: {port: '8081'}", "1: proxy.port: must be a whole number, not '8081'"),
        ("proxy: {port: 8081.0}", "1: proxy.port: must be a whole number, not 8081.0"),
        ("proxy: {port: true}", "1: proxy.port: must be a whole number, not true"),
        ("proxy: {port: null}", "1: proxy.port: must be a whole number, not null"),
        ("proxy: {port: [1]}", "1: proxy.port: must be a whole number, not a list"),
        ("proxy: {workers: 0}", "1: proxy.workers: must be at least 1"),
        ("proxy: {workers: 65}", "1: proxy.workers: must be at most 64"),
        ("proxy: {standby: -1}", "1: proxy.standby: must be at least 0"),
        ("proxy: {python: 3}", "1: proxy.python: must be text, not 3; put it in quotes"),
        ("proxy: {python: ''}", "1: proxy.python: must not be empty"),
        ('proxy: {python: "a\\0b"}', "1: proxy.python: must not contain a NUL character"),
        ("proxy: {config: c.txt}", "1: proxy.config: must end in .yaml or .yml; LiteLLM ignores other files"),
        ("proxy: {auth: key}", "1: proxy.auth: must be open or master-key, not 'key'"),
        ("proxy: {env: [A]}", "1: proxy.env: must be a mapping"),
        ("proxy: []", "1: proxy: must be a mapping of settings, not a list"),
        ("proxy: 8081", "1: proxy: must be a mapping of settings, not 8081"),
        ("proxy: {start_timeout: 0s}", "1: proxy.start_timeout: must be more than 0"),
        (
            "proxy: {start_timeout: soon}",
            "1: proxy.start_timeout: is not a duration; write it like 500ms, 30s, 5m, 7d or 1h30m",
        ),
        ("proxy: {start_timeout: null}", "1: proxy.start_timeout: must be a duration such as 30s"),
        ("proxy: {hold: 1.5}", "1: proxy.hold: has no unit; write 1.5s"),
        ("proxy: {max_memory: 2}", "1: proxy.max_memory: has no unit; write it like 50MiB, 2GiB or 1GB"),
        ("proxy: {max_memory: 2 GB}", "1: proxy.max_memory: is not a size; write it like 50MiB, 2GiB or 1GB"),
        ("proxy: {max_memory: 0B}", "1: proxy.max_memory: must be more than 0"),
        (
            "proxy: {host: '[::1]'}",
            "1: proxy.host: must be an address such as 127.0.0.1, or a host name, without port or brackets",
        ),
        ("restart: {factor: 0.5}", "1: restart.factor: must be at least 1"),
        ("restart: {factor: .inf}", "1: restart.factor: must be a finite number, not inf"),
        ("restart: {factor: .nan}", "1: restart.factor: must be a finite number, not nan"),
        ("restart: {jitter: 1.1}", "1: restart.jitter: must be at most 1"),
        ("health: {failures: 0}", "1: health.failures: must be at least 1"),
        ("health: {interval: 0s}", "1: health.interval: must be more than 0"),
        ("models: {interval: on}", "1: models.interval: must be a duration such as 5m, or off"),
        ("models: {interval: null}", "1: models.interval: must be a duration such as 5m, or off"),
        ("models: {interval: 5}", "1: models.interval: has no unit; write 5s"),
        ("models: {only_loaded: 1}", "1: models.only_loaded: must be true or false, not 1"),
        ("ollama: {url: 'localhost:11434'}", "1: ollama.url: must be a URL such as http://127.0.0.1:11434"),
        ("ollama: {url: 'http://h:99999'}", "1: ollama.url: must be a URL such as http://127.0.0.1:11434"),
        ("ollama: {url: 'http://u:p@h'}", "1: ollama.url: must be a URL without user name, query or blanks"),
        ("logs: {rotate: weekley}", "1: logs.rotate: must be hourly, daily, weekly or never, not 'weekley'"),
        ("admin: {allowed_hosts: mini}", "1: admin.allowed_hosts: must be a list, not 'mini'"),
        ("upgrade: {denied: [1.82]}", "1: upgrade.denied[0]: must be text, not 1.82; put it in quotes"),
        ("fleet: {host: a}", "1: fleet: must be a list, not a mapping"),
        ("port: 9000", "1: port: unknown key; did you mean proxy.port or admin.port?"),
        (
            "zzz: 1",
            "1: zzz: unknown key; known are proxy, restart, health, models, ollama, logs, admin, fleet, traefik, upgrade, notify, heartbeat",
        ),
        (
            "1: 2",
            "1: 1: unknown key; known are proxy, restart, health, models, ollama, logs, admin, fleet, traefik, upgrade, notify, heartbeat",
        ),
        ("- proxy", "1: must be a mapping of settings, such as `proxy:`"),
        ("proxy", "1: must be a mapping of settings, such as `proxy:`"),
    ],
)
def test_a_wrong_value_is_refused_in_plain_words(text, message):
    assert fault(text) == message


@pytest.mark.parametrize("said", ["1.104.*", ">=1.104,<1.105", "1.104.3-typo", "1.82.7+local", "v1.82.7", " 1", ""])
def test_what_would_never_match_a_release_cannot_be_denied(said):
    told = f"1: upgrade.denied[1]: must be one version such as 1.82.7, not {said!r}"

    assert fault(f"upgrade: {{denied: ['1.82.7', '{said}']}}") == told
    assert not re.match(schema()["$defs"]["UpgradeSettings"]["properties"]["denied"]["items"]["pattern"], said)


@pytest.mark.parametrize("said", ["1", "1.83.14", "1.80.0rc2", "1.74.9.post1", "1.82.3.dev1", "1.1a1.post2.dev3"])
def test_every_release_can_be_denied(said):
    assert parse(f"upgrade: {{denied: ['{said}']}}").upgrade.denied == (said,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("admin: {port: 8081}", "1: admin.port: 8081 is taken by proxy.port"),
        ("proxy: {host: localhost, port: 9}\nadmin: {port: 9}", "2: admin.port: 9 is taken by proxy.port"),
        ("logs: {max_total: 10MiB}", "1: logs.max_total: 10MiB is less than 4 files of logs.max_size (50MiB)"),
        ("restart: {longest_delay: 100ms}", "1: restart.first_delay: 500ms is more than restart.longest_delay (100ms)"),
        (
            "proxy: {host: 0.0.0.0}",
            "1: proxy.host: 0.0.0.0 is not a loopback address; use 127.0.0.1, or set proxy.allow_remote: true",
        ),
        (
            "proxy: {host: 0.0.0.0, allow_remote: true}",
            "1: proxy.auth: open serves anybody who can reach 0.0.0.0; set proxy.auth: master-key",
        ),
        ("admin: {host: '::'}", "1: admin.host: :: is not a loopback address; use 127.0.0.1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(text, message):
    assert fault(text) == message


def test_a_contradiction_with_a_setting_that_is_wrong_itself_is_not_told():
    assert faults("proxy: {port: x}\nadmin: {port: 8081}") == ["1: proxy.port: must be a whole number, not 'x'"]
    assert faults("proxy: 1\nadmin: {port: 8081}") == ["1: proxy: must be a mapping of settings, not 1"]


def test_two_loopback_addresses_may_share_a_port():
    assert parse("proxy: {host: 127.0.0.2, port: 9}\nadmin: {port: 9}").admin.port == 9


def test_a_remote_address_with_a_key_is_allowed():
    assert parse("proxy: {host: 0.0.0.0, allow_remote: true, auth: master-key}").proxy.host == "0.0.0.0"


def test_environment_variables_are_refused_one_by_one_and_never_shown():
    told = faults(
        """\
        proxy:
          env:
            GOOD: value
            BAD-NAME: hunter2
            NUMBER: 4711
            CONFIG_FILE_PATH: hunter2
            LITELLM_MASTER_KEY: hunter2
        """
    )

    assert [line.split(";")[0] for line in told] == [
        "4: proxy.env.BAD-NAME: is not the name of an environment variable",
        "5: proxy.env.NUMBER: must be text",
        "6: proxy.env.CONFIG_FILE_PATH: belongs to the supervisor",
        "7: proxy.env.LITELLM_MASTER_KEY: is a secret",
    ]
    assert not re.search("hunter2|4711", "\n".join(told))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy:\n  port: [8081\n", r"3:1: cannot read YAML: .*"),
        ("proxy:\n\tport: 1\n", r"2:1: cannot read YAML: .*"),
        ("a: b: c", r"1:5: cannot read YAML: .*"),
        ("proxy: !!python/object/apply:os.system [ls]", r"1:8: cannot read YAML: .*"),
        ("proxy: !!set {a}", r"1:8: cannot read YAML: not a plain value"),
        ("proxy: {port: 2026-13-45}", r"1:15: cannot read YAML: not a plain value"),
        ("? [a]\n: b", r"1:3: cannot read YAML: not a plain value"),
        ("a: 1\n---\nb: 2", r"2:1: cannot read YAML: .*"),
        ("proxy: *nowhere", r"1:8: cannot read YAML: .*"),
        ("a: &a [*a]", r"1:4: cannot read YAML: too many values, or endless aliases"),
        ("<<: 5", r"1:5: cannot read YAML: `<<` needs a mapping"),
        ("[" * 5000, r"1:41: cannot read YAML: nested too deeply"),
        ("a: é\nb: \x00", r"2:4: cannot read YAML: .*"),
        ('a: "\\ud800"', r"1:\d: cannot read YAML: .*"),
        ("proxy: {port: 1" + "0" * 5000 + "}", r"1:15: cannot read YAML: not a plain value"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_line_and_column(text, message):
    assert re.fullmatch(message, fault(text).removeprefix("supervisor.yaml: "))


def test_aliases_that_multiply_are_refused():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))

    assert "too many values, or endless aliases" in fault(bomb)


def test_merges_that_multiply_are_refused():
    bomb = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], b{n}: 1}}\n" for n in range(1, 30))

    assert "too many values, or endless aliases" in fault(bomb)


def test_aliases_and_merges_work():
    settings = parse("health: &h {timeout: 2s}\nollama: {<<: *h, interval: 9s}\nmodels: *h\n")

    assert (settings.health.timeout, settings.ollama.timeout, settings.models.timeout) == (2.0, 2.0, 2.0)


@given(st.text() | st.text(alphabet="proxyhealt:{}[]&*!|>-'\"#, \n019s~<?%@`\\", max_size=60))
def test_any_text_is_read_or_refused(text):
    told = refused(text)

    assert told is None or "\n".join(map(str, told)).encode()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["30s", "2GiB", "off"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
SECTIONS = {
    name: list(field.annotation.model_fields) for name, field in Settings.model_fields.items() if name != "fleet"
}


@given(
    st.fixed_dictionaries(
        {}, optional={s: VALUES | st.dictionaries(st.sampled_from(k), VALUES) for s, k in SECTIONS.items()}
    )
)
def test_any_values_are_taken_or_refused_with_their_line(data):
    told = refused(yaml.safe_dump(data, allow_unicode=True))

    assert told is None or (told and all(fault.line for fault in told))


ADOPT = """
    proxy.allow_remote proxy.workers proxy.standby proxy.start_timeout proxy.drain_timeout proxy.kill_timeout proxy.hold
    proxy.orphan_grace proxy.max_memory proxy.max_age proxy.preload proxy.packages proxy.max_in_flight
    proxy.keep_alive
    restart.first_delay restart.factor restart.longest_delay restart.jitter restart.stable_after
    health.interval health.timeout health.failures health.successes health.stalled
    models.interval models.timeout models.only_loaded models.paid models.check
    ollama.enabled ollama.url ollama.interval ollama.timeout ollama.preload ollama.help
    logs.directory logs.max_size logs.rotate logs.keep logs.max_total logs.compress logs.level
    admin.allowed_hosts fleet upgrade.canary_model upgrade.denied upgrade.keep
    upgrade.wait traefik.paths
    notify.targets notify.env_file notify.quiet heartbeat.url heartbeat.interval
"""
ROLL = "proxy.python proxy.config proxy.auth proxy.env proxy.env_file"
FIXED = "proxy.host proxy.port admin.host admin.port admin.socket"
OTHER = """
proxy: {python: p, config: c.yml, host: 127.0.0.2, port: 1, allow_remote: true, workers: 2, standby: 1, auth: master-key,
  env: {A: hunter2}, env_file: s, start_timeout: 1s, drain_timeout: 1s, kill_timeout: 1s, orphan_grace: 1s, hold: 1s,
  max_memory: 1GB, max_age: 1d, preload: on, packages: [a], max_in_flight: {models: {x: 1}}, keep_alive: off}
restart: {first_delay: 1s, factor: 3, longest_delay: 2s, jitter: 0, stable_after: 1s}
health: {interval: 1s, timeout: 1s, failures: 1, successes: 1, stalled: off}
models: {interval: off, timeout: 1s, only_loaded: false, paid: true, check: [gpt]}
ollama: {enabled: false, url: "http://127.0.0.1:1", interval: 1s, timeout: 1s, preload: [m],
  help: {after: 1s, unload: true, restart_runner: true, restart_command: [/bin/x], timeout: 1s, patience: 1s}}
logs: {directory: l, max_size: 1MiB, rotate: daily, keep: 1, max_total: 4MiB, compress: false, level: debug}
admin: {host: 127.0.0.3, port: 2, socket: s, allowed_hosts: [a]}
fleet: [{host: a}]
upgrade: {canary_model: m, denied: ["1"], keep: 3, wait: 1d}
notify: {targets: [{kind: macos}], env_file: s, quiet: 22:00-07:00}
heartbeat: {url: "http://127.0.0.1:1", interval: 1s}
traefik: {paths: [/v1/audio/*]}
"""


def test_every_setting_is_adopted_or_rolled_or_fixed():
    kinds = {change.path: change.kind for change in changes(Settings(), parse(OTHER))}

    expected = dict.fromkeys(ADOPT.split(), "adopt")
    expected |= dict.fromkeys(ROLL.split(), "roll") | dict.fromkeys(FIXED.split(), "fixed")
    assert kinds == expected
    assert {path.split(".")[0] for path in kinds} == set(Settings.model_fields)
    assert len(kinds) == sum(map(len, SECTIONS.values())) + 1  # fleet


def test_nothing_changed_is_no_change():
    assert changes(parse(OTHER), parse(OTHER)) == ()


def test_a_change_is_shown_as_people_write_it():
    (change,) = changes(Settings(), parse("proxy: {drain_timeout: 90s}"))

    assert change == Change("proxy.drain_timeout", "30s", "1m30s", "adopt")
    assert str(change) == "proxy.drain_timeout: 30s -> 1m30s"


def test_a_change_of_the_environment_shows_no_value():
    (change,) = changes(Settings(), parse("proxy: {env: {KEY: hunter2}}"))

    assert str(change) == "proxy.env changed"
    assert "hunter2" not in repr(change)


def test_settings_do_not_show_the_environment():
    assert "hunter2" not in repr(parse("proxy: {env: {KEY: hunter2}}"))


def test_the_schema_has_every_key_its_human_form_and_default():
    described = schema()
    proxy = described["$defs"]["ProxySettings"]

    assert set(described["properties"]) == set(Settings.model_fields)
    assert set(proxy["properties"]) == set(SECTIONS["proxy"])
    assert proxy["additionalProperties"] is False
    assert proxy["properties"]["drain_timeout"]["default"] == "30s"
    assert proxy["properties"]["drain_timeout"]["description"] == "How long a worker may finish what is in flight."
    assert re.match(proxy["properties"]["drain_timeout"]["pattern"], "1h30m")
    assert not re.match(proxy["properties"]["drain_timeout"]["pattern"], "30")
    assert described["$defs"]["ModelSettings"]["properties"]["interval"]["anyOf"][1] == {"enum": ["off", False]}


def test_of_very_many_faults_the_first_are_told_and_the_rest_counted():
    text = "\n".join(f"key{number}: 1" for number in range(5000))
    settings, found = examine(text, "supervisor.yaml")
    assert settings is not None
    assert len(found) == 5000
    told = str(ConfigError(found)).splitlines()
    assert told[0] == "supervisor.yaml:1: key0: unknown key; known are " + told[0].partition("known are ")[2]
    assert told[-1] == "supervisor.yaml: and 4950 more faults"
    assert len(told) == 51


def test_what_was_meant_is_looked_for_as_often_as_it_is_told(monkeypatch):
    asked = []
    monkeypatch.setattr(complaints, "nearest", lambda word, _: asked.append(word))
    examine("\n".join(f"key{number}: 1" for number in range(5000)), "supervisor.yaml")
    assert asked == [f"key{number}" for number in range(50)]


def test_a_file_of_fifty_thousand_keys_is_refused_before_it_is_built():
    refused = fault("\n".join(f"key{number}: 1" for number in range(50_000)))
    assert "cannot read YAML: too many values" in refused


@pytest.mark.parametrize(("written", "meant"), [("on", "on"), ("off", "off"), ("auto", "auto"), ('"on"', "on")])
def test_a_switch_is_meant_as_it_is_written(written, meant):
    assert parse(f"proxy: {{preload: {written}}}").proxy.preload == meant


def test_a_switch_has_three_positions():
    with pytest.raises(ConfigError, match="must be auto, on or off"):
        parse("proxy: {preload: maybe}")


def test_the_schema_has_the_human_form_of_what_is_within_a_section_too():
    described = schema()["$defs"]["HelpSettings"]["properties"]
    assert (described["after"]["default"], described["patience"]["default"]) == ("30s", "30m")


def test_a_key_within_a_section_is_compared_with_those_beside_it():
    (fault,) = refused("ollama: {help: {unlaod: true}}")
    assert "did you mean ollama.help.unload?" in str(fault)


@pytest.mark.parametrize("words", ["brew services restart ollama", "[brew, 1]", '[""]'])
def test_a_command_is_a_list_of_words(words):
    assert refused(f"ollama: {{help: {{restart_command: {words}}}}}")
