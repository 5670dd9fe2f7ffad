"""What `doctor` still says when one of the home's files cannot be used."""

import json

import pytest

from ccproxy_supervisor.deploy import doctor
from ccproxy_supervisor.deploy.doctor import neighbours, ports
from ccproxy_supervisor.deploy.doctor.finding import Level
from doctor_stage import Stage

SETTINGS = {"proxy": {"python": "elsewhere/bin/python", "port": 9081}, "admin": {"port": 9082}}


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A home whose settings are in order, and whose config.yaml is not there."""
    stage = Stage(tmp_path, monkeypatch)
    (stage.folder / "supervisor.yaml").write_text(json.dumps(SETTINGS))
    stage.answer("http://127.0.0.1:9082/status", {"status": "healthy", "pid": 41})
    stage.answer("http://127.0.0.1:11434/api/version", {"version": "0.12.3"})
    scene = stage.scene
    del scene.__dict__["plan"]
    return scene


def test_a_fault_of_another_file_does_not_hide_what_the_settings_say(scene):
    found = {topic: [] for topic in doctor.TOPICS}
    for topic, finding in doctor.examine(scene):
        found[topic].append((finding.level, finding.title))

    assert (Level.OK, "the daemon says it is healthy") in found["Daemon"]
    assert (Level.FAIL, "nothing listens on port 9081 (proxy.port)") in found["Daemon"]
    assert (Level.OK, "Ollama 0.12.3 answers") in found["Neighbours"]
    assert (Level.SKIP, "the models that are asked of Ollama") in found["Neighbours"]
    [(_, litellm), *_] = found["LiteLLM"]
    assert litellm == "LiteLLM's interpreter is broken"


def test_the_interpreter_of_the_settings_is_looked_at_and_not_the_usual_one(scene):
    evidence = [finding.evidence for topic, finding in doctor.examine(scene) if topic == "LiteLLM"]

    assert "elsewhere/bin/python" in evidence[0]


def test_settings_that_cannot_be_used_are_not_guessed(scene):
    scene.home.settings_file.write_text("proxy: {prot: 1}")

    assert [finding.level for check in (ports.daemon, ports.ports, neighbours.ollama) for finding in check(scene)] == [
        Level.SKIP
    ] * 3
