"""Power, login, clock, and the programs on both sides."""

from dataclasses import replace

import pytest

from ccproxy_supervisor.core.litellm import Model
from ccproxy_supervisor.core.settings import parse
from ccproxy_supervisor.deploy import tokens, traefik
from ccproxy_supervisor.deploy.doctor import clock, interpreter, mac, neighbours, network
from ccproxy_supervisor.deploy.doctor.finding import Level
from doctor_stage import LLAMA, Stage


@pytest.fixture
def stage(tmp_path, monkeypatch):
    return Stage(tmp_path, monkeypatch)


def test_on_other_systems_the_checks_of_a_mac_say_so(stage):
    found = [finding for check in (mac.system, mac.restart, mac.power) for finding in check(stage.scene)]

    assert {(finding.level, finding.evidence) for finding in found} == {(Level.SKIP, "not on this system")}


@pytest.mark.parametrize(
    ("vault", "login", "daemon", "levels"),
    [
        ("FileVault is Off.", "you", False, [Level.OK]),
        ("FileVault is Off.", None, False, [Level.WARN]),
        ("FileVault is Off.", None, True, [Level.OK]),
        ("FileVault is On.", None, False, [Level.WARN, Level.WARN]),
        ("FileVault is On.", None, True, [Level.WARN, Level.OK]),
        ("Encryption in progress: Percent completed = 4", None, True, [Level.WARN, Level.OK]),
        ("Error: Unable to read", None, True, [Level.WARN, Level.OK]),
        ("FileVault is Off.", "somebody", False, [Level.WARN]),
        ("FileVault is Off.", "somebody", True, [Level.OK]),
    ],
)
def test_what_a_mac_does_after_a_power_loss_is_told(stage, vault, login, daemon, levels):
    stage.program("fdesetup", vault)
    stage.program("defaults", login or "The domain/default pair does not exist", 0 if login else 1)
    stage.environ["USER"] = "you"
    if daemon:
        stage.installed("daemon")

    assert [finding.level for finding in mac.restart(stage.scene)] == levels


PMSET = """System-wide power settings:
Currently in use:
 standby              0
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 autorestart          {autorestart}
 sleep                {sleep} (sleep prevented by powerd)
 womp                 1"""


@pytest.mark.parametrize(
    ("sleep", "autorestart", "levels"), [(0, 1, [Level.OK, Level.OK]), (10, 0, [Level.FAIL, Level.WARN])]
)
def test_sleep_and_power_settings_are_read(stage, sleep, autorestart, levels):
    stage.program("pmset", PMSET.format(sleep=sleep, autorestart=autorestart))

    assert [finding.level for finding in mac.power(stage.scene)] == levels


def test_a_mac_whose_sleep_is_disabled_does_not_sleep_whatever_its_timer_says(stage):
    stage.program(
        "pmset", PMSET.format(sleep=10, autorestart=1).replace("settings:\n", "settings:\n SleepDisabled\t\t1\n", 1)
    )

    assert stage.found(mac.power)[0] == (Level.OK, "this Mac does not go to sleep")


@pytest.mark.parametrize("says", ["", "/etc/ssl/cert.pem"])
def test_a_python_without_certificate_authorities_is_found(stage, monkeypatch, says):
    stage.program("python", says)
    scene = replace(stage.scene, python=str(stage.bin / "python"))
    scene.__dict__["plan"] = stage.scene.plan

    [finding] = interpreter.certificates(scene)
    assert finding.level is (Level.OK if says else Level.WARN)
    assert says or finding.remedy.startswith("open '/Applications/Python 3.x/Install Certificates.command'")


def test_a_pmset_that_says_something_else_is_no_trouble(stage):
    stage.program("pmset", "who knows")

    assert stage.found(mac.power) == [(Level.SKIP, "sleep and power settings")]


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("+0.012345 +/- 0.007 time.apple.com 17.253.4.253", Level.OK),
        ("-61.5 +/- 0.007 time.apple.com", Level.WARN),
        ("sntp: cannot resolve", Level.SKIP),
    ],
)
def test_the_clock_is_held_against_apple_s(stage, said, level):
    stage.program("sntp", said)

    assert [finding.level for finding in clock.clock(stage.scene)] == [level]


def test_a_clock_that_is_years_behind_or_was_set_back_is_wrong(stage):
    stage.now = 1e9

    assert [title for level, title in stage.found(clock.clock) if level is Level.FAIL] == [
        "the clock is years behind", "the clock was set back",
    ]  # fmt: skip


OLLAMA = "http://127.0.0.1:11434"


def test_ollama_that_is_down_is_bad_only_if_a_model_lives_there(stage):
    assert stage.found(neighbours.ollama) == [(Level.WARN, "Ollama is not reachable")]
    stage.models = [LLAMA]
    assert stage.found(neighbours.ollama) == [(Level.FAIL, "Ollama is not reachable")]
    stage.settings = parse("ollama: {enabled: false}")
    assert stage.found(neighbours.ollama) == [(Level.SKIP, "Ollama")]


def test_models_that_ollama_lacks_are_named_with_the_command_that_fetches_them(stage):
    stage.models = [LLAMA, Model("other", "ollama/other", ollama="other:7b")]
    stage.answer(f"{OLLAMA}/api/version", {"version": "0.12.3"})
    stage.answer(f"{OLLAMA}/api/tags", {"models": [{"name": "llama2:latest"}]})
    found = list(neighbours.ollama(stage.scene))

    assert [finding.title for finding in found] == ["Ollama 0.12.3 answers", "Ollama lacks other:7b"]
    assert found[1].remedy == "ollama pull other:7b"


def test_something_else_on_ollama_s_port_is_not_taken_for_it(stage):
    stage.answer(f"{OLLAMA}/api/version", b"<html>")

    assert stage.found(neighbours.ollama) == [(Level.FAIL, "what answers at ollama.url is not Ollama")]


@pytest.mark.parametrize(
    ("value", "titles"),
    [
        ("127.0.0.1:11434", []),
        ("localhost", []),
        ("0.0.0.0", ["Ollama may be open to the network"]),
        (":11434", ["Ollama may be open to the network"]),
        ("http://:11434", ["Ollama may be open to the network"]),
        ("127.0.0.1:9999", ["Ollama may listen elsewhere than ollama.url says"]),
        ("http://127.0.0.1", ["Ollama may listen elsewhere than ollama.url says"]),
        ("0.0.0.0:x", ["Ollama may be open to the network", "Ollama may listen elsewhere than ollama.url says"]),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(stage, value, titles):
    stage.answer(f"{OLLAMA}/api/version", {"version": "0.12.3"})
    stage.environ["OLLAMA_HOST"] = value

    assert [title for level, title in stage.found(neighbours.ollama) if level is Level.WARN] == titles


def test_ollama_host_is_also_asked_of_launchd(stage):
    stage.answer(f"{OLLAMA}/api/version", {"version": "0.12.3"})
    stage.program("launchctl", "0.0.0.0")
    [_, finding] = neighbours.ollama(stage.scene)

    assert finding.evidence == "OLLAMA_HOST is 0.0.0.0 (launchctl getenv)"


@pytest.mark.parametrize(
    ("status", "level"), [(None, Level.WARN), (401, Level.OK), (200, Level.FAIL), (404, Level.WARN), (502, Level.WARN)]
)
def test_the_front_door_must_refuse_a_request_without_a_token(stage, status, level):
    if status:
        stage.answer("http://127.0.0.1:8080/v1/models", b"", status)

    assert [finding.level for finding in neighbours.traefik(stage.scene)] == [level]


def test_routes_of_yesterday_are_found(stage):
    home = stage.scene.home
    assert stage.found(neighbours.routes) == []
    file = traefik.publish(home, stage.settings, tokens.Ledger())
    assert stage.found(neighbours.routes) == [(Level.OK, "Traefik's routes are up to date")]

    stage.settings = parse("proxy: {port: 9999}")
    assert stage.found(neighbours.routes) == [(Level.WARN, "Traefik's routes are out of date")]

    file.chmod(0o644)
    assert [level for level, _ in stage.found(neighbours.routes)] == [Level.FAIL]


BESIDE = parse("ollama: {url: 'http://192.168.1.20:11434'}")


@pytest.mark.parametrize(
    ("settings", "macos", "detail", "expected"),
    [
        (BESIDE, "15.5", "/api/version: cannot connect: No route to host", [Level.FAIL]),
        (BESIDE, "15.5", None, [Level.OK]),
        (BESIDE, "14.7", "cannot connect: No route to host", [Level.SKIP]),
        (BESIDE, None, None, [Level.SKIP]),
        (parse(""), "15.5", "cannot connect: No route to host", []),
        (parse("ollama: {url: 'http://[::1]:11434'}"), "15.5", None, []),
    ],
)
def test_a_daemon_that_macos_keeps_from_the_local_network_is_found(stage, settings, macos, detail, expected):
    stage.settings = settings
    if macos:
        stage.program("sw_vers", macos)
    stage.answer("http://127.0.0.1:8082/status", {"status": "degraded", "ollama": {"detail": detail}, "models": []})

    assert [level for level, _ in stage.found(network.network)] == expected


def test_models_beside_this_machine_count_and_a_silent_daemon_proves_nothing(stage):
    stage.models = [Model("far", "openai/x", api_base="http://studio.local:8000/v1")]
    stage.program("sw_vers", "26.0")

    [finding] = network.network(stage.scene)
    assert finding.level is Level.SKIP
    assert "selftest" in finding.evidence
