import json

import pytest

from ccproxy_supervisor.core.model import (
    Cause,
    Ending,
    Failover,
    Helped,
    ModelSeen,
    Note,
    OllamaStatus,
    Probed,
    Reloaded,
    State,
    Transition,
    Verdict,
)
from ccproxy_supervisor.edge.journal import Writer

BAD = Verdict(ok=False, seconds=1.0, reason="timeout", detail="no answer")


@pytest.fixture
def written():
    return []


def told(written, *events, level="info", show=None):
    writer = Writer(written.append, level, show)
    for event in events:
        writer(event)
    lines = [json.loads(line) for line in written]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def test_every_line_is_json_with_time_level_and_event_first(written):
    told(written, Note("admin.opened", fields={"port": 8082}))
    assert list(json.loads(written[0])) == ["time", "level", "event", "port"]
    assert written[0].endswith(b"\n")


def test_transitions_are_named_after_the_new_state(written):
    moved = Transition(3, 0, 2, State.STARTING, State.STANDBY, 6.1234, 57)
    assert told(written, moved) == [
        {
            "level": "info", "event": "worker.standby", "worker": 3, "slot": 0, "generation": 2, "pid": 57,
            "was": "starting", "seconds": 6.123,
        }
    ]  # fmt: skip


def test_an_unplanned_end_is_an_error_with_the_last_lines(written):
    ending = Ending(Cause.EXITED, 12.3456, 0.0, -9, "", ("boom",))
    (line,) = told(written, Transition(3, None, 2, State.SERVING, State.GONE, 1.0, 57, ending))
    assert (line["level"], line["event"], line["cause"], line["status"], line["output"]) == (
        "error",
        "worker.gone",
        "exited",
        -9,
        ["boom"],
    )
    assert "slot" not in line


def test_a_planned_end_is_not(written):
    ending = Ending(Cause.RELOAD, 12.3, 0.0, 0, "", ("bye",))
    (line,) = told(written, Transition(3, 0, 2, State.DRAINING, State.GONE, 1.0, 57, ending))
    assert (line["level"], line["cause"], "output" in line) == ("info", "reload", False)


def test_backoff_tells_its_delay(written):
    (line,) = told(written, Transition(3, 0, 2, State.GONE, State.BACKOFF, delay=1.5))
    assert (line["event"], line["delay"]) == ("worker.backoff", 1.5)


@pytest.mark.parametrize(("result", "level"), [("rolled", "info"), ("refused", "error"), ("failed", "error")])
def test_reloads(written, result, level):
    (line,) = told(written, Reloaded(result, "why", "SIGHUP", ("x",)))
    assert line == {"level": level, "event": f"reload.{result}", "by": "SIGHUP", "detail": "why", "changes": ["x"]}


def test_failed_liveness_is_a_warning_and_what_ollama_or_a_model_lack_is_told_once(written):
    failing = [Probed("liveness", "worker 3", BAD), Probed("ollama", "ollama", BAD), OllamaStatus(up=False)]
    sick = [ModelSeen("a", healthy=False, detail="x"), ModelSeen("a", healthy=True, before=False)]
    lines = told(written, *failing, *sick, ModelSeen("b", healthy=True))
    assert [(line["level"], line["event"]) for line in lines] == [
        ("warning", "probe.failed"), ("warning", "model.failed"), ("info", "model.recovered"),
    ]  # fmt: skip


def test_a_model_that_is_forgiven_is_told_once_and_fails_anew(written):
    sick = ModelSeen("a", healthy=False, detail="x")
    forgiven = ModelSeen("a", healthy=None, detail="y", before=False)
    lines = told(written, sick, forgiven, sick, forgiven, ModelSeen("a", healthy=True))
    assert [line["event"] for line in lines] == ["model.failed", "model.forgotten"] * 2


def test_a_year_of_good_probes_writes_nothing(written):
    assert told(written, Probed("liveness", "worker 3", Verdict(ok=True, seconds=0.1)), level="debug") == []


def test_the_level_is_adopted(written):
    assert told(written, Note("x.done"), Failover(0, 0.06), level="warning")[0]["event"] == "failover.ended"
    assert len(written) == 1


def test_a_terminal_gets_a_line_to_read(written):
    shown = []
    told(written, Note("admin.opened", fields={"port": 8082}), show=shown.append)
    assert shown[0][8:] == b" info    admin.opened         port=8082"


def test_what_cannot_be_encoded_is_replaced_and_nothing_raised(written):
    told(written, Note("x.done", fields={"odd": "\ud800", "path": object}))
    assert len(written) == 1


def test_a_step_for_ollama_is_a_warning_and_the_last_one_an_error(written):
    lines = told(
        written, Helped("unload", "llama2 answers nothing"), Helped("shout", "llama2 answers nothing", "tried unload")
    )
    assert [(line["level"], line["event"], line["step"]) for line in lines] == [
        ("warning", "ollama.helped", "unload"), ("error", "ollama.helpless", "shout"),
    ]  # fmt: skip
    assert (lines[0]["why"], lines[1]["detail"]) == ("llama2 answers nothing", "tried unload")
