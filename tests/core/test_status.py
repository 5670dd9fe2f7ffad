import pytest

from ccproxy_supervisor.core import status
from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.model import Cause, Ending, OllamaStatus, Reloaded, State, Status, Usage
from ccproxy_supervisor.core.status import WorkerView

ENDING = Ending(Cause.EXITED, 120.5, 1_795_421_000.0, -9, "", ("last line",))
SERVING = WorkerView(0, State.SERVING, 1, 57, 3, 10.0, python="/home/venvs/1/bin/python")
STARTING = WorkerView(0, State.STARTING, 1, 57, 3, 1.0)
FAILED = WorkerView(0, State.BACKOFF, 1, None, 3, 0.0, restarts=4, backoff=2.5, last_ending=ENDING, failed=True)
AGAIN = WorkerView(0, State.STARTING, 1, 57, 3, 1.0, last_ending=ENDING)
UP, DOWN = OllamaStatus(up=True), OllamaStatus(up=False)
STUCK = OllamaStatus(up=True, stuck="llama2 answers nothing")
LACKS = OllamaStatus(up=True, missing=("llama2",))


@pytest.mark.parametrize(
    ("views", "wanted", "ollama", "models", "more", "expected"),
    [
        ([SERVING], 1, UP, [], {}, Status.HEALTHY),
        ([SERVING], 1, None, [ModelView("a", True), ModelView("b")], {}, Status.HEALTHY),
        ([SERVING, STARTING], 2, UP, [], {}, Status.DEGRADED),
        ([SERVING], 1, UP, [ModelView("a", False)], {}, Status.DEGRADED),
        ([SERVING], 1, DOWN, [], {}, Status.HEALTHY),
        ([SERVING], 1, DOWN, [], {"needs_ollama": True}, Status.DEGRADED),
        ([SERVING], 1, LACKS, [], {"needs_ollama": True}, Status.DEGRADED),
        ([SERVING], 1, STUCK, [], {"needs_ollama": True}, Status.DEGRADED),
        ([SERVING], 1, STUCK, [], {}, Status.HEALTHY),
        ([STARTING], 1, UP, [], {}, Status.STARTING),
        ([], 1, UP, [], {}, Status.STARTING),
        ([AGAIN], 1, UP, [], {}, Status.STARTING),
        ([STARTING], 1, UP, [], {"ever_served": True}, Status.UNHEALTHY),
        ([FAILED], 1, UP, [], {}, Status.UNHEALTHY),
        ([SERVING], 1, UP, [], {"stopping": True}, Status.STOPPING),
    ],
)
def test_the_status_word(views, wanted, ollama, models, more, expected):
    unwell = status.reasons(views, wanted, ollama, models, needs_ollama=more.pop("needs_ollama", False))
    assert status.judge(views, unwell, **{"ever_served": False, "stopping": False, **more}) is expected


def test_what_is_not_well_is_said_in_words():
    sick = [ModelView("a", healthy=False, detail="refused"), ModelView("b", healthy=True)]
    assert status.reasons([SERVING], 2, LACKS, sick, needs_ollama=True) == [
        "1 of 2 workers serving",
        "Ollama does not have llama2",
        "model a fails: refused",
    ]
    assert status.reasons([], 1, DOWN, [], needs_ollama=True) == [
        "none of 1 worker serving",
        "Ollama does not answer: down",
    ]


def test_a_row_of_a_serving_worker():
    usage = Usage(373_000_000, 1.5, 20, 9)
    assert status.worker(SERVING, usage, 0.4321, None) == {
        "slot": 0, "state": "serving", "worker": 1, "pid": 57, "generation": 3, "uptime": 10.0, "restarts": 0,
        "memory": 373_000_000, "memory_growth": None, "cpu": 0.432, "last_ending": None,
        "python": "/home/venvs/1/bin/python", "adopted": False,
    }  # fmt: skip


def test_a_row_of_a_place_in_backoff_tells_the_last_ending():
    assert status.worker(FAILED, None, None, None) == {
        "slot": 0, "state": "backoff", "worker": 1, "pid": None, "generation": 3, "uptime": 0.0, "restarts": 4, "backoff": 2.5,
        "memory": None, "memory_growth": None, "cpu": None, "python": "", "adopted": False,
        "last_ending": {
            "cause": "exited", "status": -9, "at": "2026-11-23T08:03:20Z", "uptime": 120.5, "detail": "", "output": ["last line"],
            "told": "was killed by SIGKILL after 2 min",
        },
    }  # fmt: skip


def test_what_is_not_known_is_null():
    assert status.ollama(None) is None
    assert status.reload(None, None) is None
    assert status.model(ModelView("echo")) == {
        "name": "echo", "healthy": None, "checked": None, "detail": "", "asked": True, "deployments": 1,
        "healthy_deployments": None, "upstream": "", "upstreams": [],
    }  # fmt: skip


def test_a_reload_is_told_with_its_changes():
    told = status.reload(Reloaded("applied", "x", "SIGHUP", ("a: 1 -> 2",)), 0.0)
    assert told == {
        "result": "applied",
        "at": "1970-01-01T00:00:00Z",
        "detail": "x",
        "by": "SIGHUP",
        "changes": ["a: 1 -> 2"],
    }


def test_a_stuck_ollama_is_said():
    assert status.reasons([SERVING], 1, STUCK, [], needs_ollama=True) == ["Ollama is stuck: llama2 answers nothing"]
    assert status.ollama(STUCK)["stuck"] == "llama2 answers nothing"
    assert status.ollama(UP)["stuck"] is None
