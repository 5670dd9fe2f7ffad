"""What a person is told about an unplanned ending."""

import pytest

from ccproxy_supervisor.core.incident import crashed, headline, helpless, in_words, incident, killed, spell, stuck, tell
from ccproxy_supervisor.core.model import Cause, Ending, State, Transition

AT = 1_795_420_800.0


def record(cause=Cause.EXITED, status=-9, slot=0, uptime=7500.0, detail="", output=(), memory=(), probes=()):
    ending = Ending(cause, uptime, AT, status, detail, output)
    moved = Transition(3, slot, 2, State.SERVING, State.GONE, pid=57, ending=ending)
    return incident(moved, ending, [(AT - uptime, "starting"), (AT, "gone")], memory, probes)


@pytest.mark.parametrize(
    ("ending", "sentence"),
    [
        ({}, "Worker 3 in slot 0 was killed by SIGKILL after 2 h 5 min."),
        ({"slot": None, "status": 3, "uptime": 6.21}, "Worker 3 on standby exited with status 3 after 6.2 s."),
        ({"cause": Cause.SPAWN_FAILED, "status": None}, "Worker 3 in slot 0 could not be started."),
        (
            {"cause": Cause.START_TIMEOUT, "uptime": 120.0},
            "Worker 3 in slot 0 was not ready after 2 min and was ended.",
        ),
        (
            {"cause": Cause.UNRESPONSIVE, "uptime": 86400.0},
            "Worker 3 in slot 0 stopped answering its probes after 1 d and was ended.",
        ),
        (
            {"cause": Cause.UNRESPONSIVE, "uptime": 60.0, "detail": "connections wait"},
            "Worker 3 in slot 0 stopped answering its users after 1 min and was ended.",
        ),
    ],
)
def test_each_cause_has_its_sentence(ending, sentence):
    assert headline(record(**ending)) == sentence


def test_the_record_is_complete():
    probe = {"at": "2026-11-23T08:00:00Z", "probe": "liveness", "ok": True, "reason": "", "seconds": 0.01}

    assert record(output=("Killed",), memory=[(AT - 5, 400 << 20)], probes=[probe]) == {
        "at": "2026-11-23T08:00:00Z", "cause": "exited", "worker": 3, "slot": 0, "generation": 2, "pid": 57,
        "uptime": 7500.0, "status": -9, "exit": "was killed by SIGKILL", "detail": "",
        "timeline": [{"at": "2026-11-23T05:55:00Z", "state": "starting"}, {"at": "2026-11-23T08:00:00Z", "state": "gone"}],
        "probes": [probe], "memory": [{"at": "2026-11-23T07:59:55Z", "bytes": 419430400}], "output": ["Killed"],
        "told": "Worker 3 in slot 0 was killed by SIGKILL after 2 h 5 min.",
    }  # fmt: skip


def test_everything_known_is_told():
    memory = [(AT - 3600 + 60 * step, (300 + step) << 20) for step in range(60)]
    bad = {"at": "", "probe": "liveness", "ok": False, "reason": "timeout", "seconds": 3.0}
    told = tell(
        record(detail="cannot say", output=("one", "two"), memory=memory, probes=[bad | {"ok": True}, bad, bad])
    )

    assert told == [
        "Worker 3 in slot 0 was killed by SIGKILL after 2 h 5 min.",
        "What that means: nobody here asked for it: the system (memory pressure) or a person did it.",
        "Reason given: cannot say",
        "It used 359 MiB when last looked at, growing 60 MiB an hour.",
        "Its last answer to a probe was bad 2 times in a row (timeout).",
        "Its last words:",
        "  | one",
        "  | two",
    ]


def test_nothing_known_is_told_too():
    assert tell({"cause": "exited"}) == ["Worker None on standby ended after 0.0 s.", "It left no last words."]


def test_a_stuck_supervisor_has_an_incident_that_shows_where_its_main_thread_was():
    watchdog = ["Thread 0x2 (most recent call first):", '  File "watchdog.py", line 1 in _end', ""]
    main = ["Thread 0x1 (most recent call first):", '  File "x.py", line 1 in y', '  File "x.py", line 9 in z']

    assert tell(stuck(AT, watchdog + main)) == [
        "The supervisor's own event loop was stuck; its watchdog ended it and a new one was started.",
        "It was here, innermost call first:",
        '  |   File "x.py", line 1 in y',
        '  |   File "x.py", line 9 in z',
    ]
    assert tell(stuck(AT, ["garbage"]))[-1] == "  | garbage"


@pytest.mark.parametrize(
    ("booted", "told"),
    [
        (AT - 600.0, "The supervisor was killed, or crashed in native code"),
        (AT - 30.0, "The machine went down, or was restarted, before the supervisor had stopped"),
    ],
)
def test_a_supervisor_that_was_killed_is_told_from_a_machine_that_went_down(booted, told):
    record = killed(AT, AT - 60.0, booted)

    assert tell(record) == [f"{told}; it was last known to run at 2026-11-23T07:59:00Z.", "It left no last words."]
    assert headline(record) == record["told"]


def test_a_bug_of_the_supervisor_is_told_with_the_end_of_its_traceback():
    told = tell(crashed(AT, [f"line {number}" for number in range(20)]))

    assert told[0].startswith("The supervisor met a bug of its own")
    assert told[-1] == "  | line 19"


@pytest.mark.parametrize(
    ("status", "words"), [(0, "exited with status 0"), (-15, "was killed by SIGTERM"), (-99, "was killed by signal 99")]
)
def test_statuses_in_words(status, words):
    assert in_words(status) == words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.5, "9.5 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (273659, "3 d 4 h"),
    ],
)
def test_times_keep_the_two_units_that_matter(seconds, text):
    assert spell(seconds) == text


def test_records_among_the_last_words_are_told_as_a_person_reads_them():
    record = '{"time": "2026-11-23T08:00:00.000Z", "level": "error", "logger": "LiteLLM", "worker": 1, "message": "no \\"key\\""}'
    told = tell({"cause": "exited", "output": [record, "plain"]})
    assert told[-2:] == ['  | error: no "key"', "  | plain"]


def test_an_ollama_that_nothing_helped_is_told_with_what_was_tried():
    record = helpless(1_795_597_200.0, "llama2 answers nothing", "tried unload, restart_runner")
    assert tell(record) == [
        "Ollama answers and generates nothing: llama2 answers nothing.",
        "Reason given: tried unload, restart_runner",
    ]
