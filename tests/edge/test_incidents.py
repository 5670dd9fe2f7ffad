"""Incident files: one for each unplanned ending, whole or absent, bounded, and never the daemon's problem."""

import json
import threading

import pytest

from ccproxy_supervisor.core.model import Cause, Ending, Note, OllamaStatus, Probed, State, Transition, Verdict
from ccproxy_supervisor.edge import incidents as edge
from ccproxy_supervisor.edge.incidents import Incidents, read, write
from ccproxy_supervisor.system import files

AT = 1_795_420_800.0


class Told(list):
    """A journal that keeps what it is told."""

    __call__ = list.append


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def incidents(tmp_path, told):
    made = Incidents(tmp_path / "incidents", told, lambda number: [(AT, number << 20)], lambda: AT)
    yield made
    made.close()


def live(incidents, number, cause, status=None):
    incidents(Transition(number, 0, 1, None, State.STARTING, pid=57))
    incidents(Transition(number, 0, 1, State.STARTING, State.STANDBY, pid=57))
    incidents(Probed("liveness", f"worker {number}", Verdict(False, 3.0, "timeout")))
    ending = Ending(cause, 12.5, AT + number, status, output=("last words",))
    incidents(Transition(number, 0, 1, State.STANDBY, State.GONE, pid=57, ending=ending))


def test_an_unplanned_ending_leaves_one_private_file_with_the_whole_story(incidents, tmp_path):
    live(incidents, 3, Cause.EXITED, -9)
    incidents.close()

    [path] = (tmp_path / "incidents").iterdir()
    found = json.loads(path.read_text())
    assert path.name == "20261123T080003Z-exited-3.json"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [step["state"] for step in found["timeline"]] == ["starting", "standby", "gone"]
    assert (found["probes"][0]["reason"], found["memory"][0]["bytes"], found["output"]) == (
        "timeout", 3 << 20, ["last words"],
    )  # fmt: skip


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause.planned])
def test_a_planned_ending_leaves_none(incidents, tmp_path, cause):
    live(incidents, 3, cause, 0)
    incidents.close()

    assert not (tmp_path / "incidents").exists()


def test_what_is_remembered_of_the_living_ends_with_them(incidents):
    for number in range(20):
        live(incidents, number, Cause.STOP)
        incidents(Transition(number, 0, 1, State.GONE, State.BACKOFF, delay=1.0))
        incidents(Probed("liveness", f"worker {number}", Verdict(True, 0.1)))

    assert incidents._lives == {}


def test_events_of_others_are_passed_over(incidents):
    incidents(OllamaStatus(up=False))
    incidents(Probed("ollama", "ollama", Verdict(False, 5.0, "timeout")))

    assert incidents.latest_line() == ""


def test_the_newest_is_one_line_and_known_after_a_restart(incidents, tmp_path, told):
    live(incidents, 3, Cause.EXITED, -9)
    incidents.close()
    line = "2026-11-23T08:00:03Z Worker 3 in slot 0 was killed by SIGKILL after 12 s."

    assert incidents.latest_line() == line
    assert Incidents(tmp_path / "incidents", told, lambda _: []).latest_line() == line


def test_only_the_newest_are_kept(tmp_path):
    for second in range(60):
        write(tmp_path, {"at": f"2026-11-23T08:00:{second:02}Z", "cause": "exited", "worker": 1}, keep=50)

    kept = read(tmp_path, 100)
    assert (len(kept), kept[0]["at"], kept[-1]["at"]) == (50, "2026-11-23T08:00:10Z", "2026-11-23T08:00:59Z")


def test_the_last_ones_are_read_oldest_first_and_garbage_is_passed_over(tmp_path):
    for second in (1, 2, 3):
        write(tmp_path, {"at": f"2026-11-23T08:00:0{second}Z", "cause": "exited"})
    (tmp_path / "20261123T090000Z-exited-1.json").write_text("{")
    (tmp_path / "20261123T090001Z-exited-1.json").write_text("[]")
    (tmp_path / "20261123T090002Z-exited-1.json").mkdir()

    assert [each["at"][-3:] for each in read(tmp_path, 2)] == ["02Z", "03Z"]


def test_a_write_that_fails_is_counted_and_told_in_the_event_loop(incidents, told, tmp_path, monkeypatch):
    (tmp_path / "incidents").write_text("a file where the folder should be")
    live(incidents, 3, Cause.EXITED, 1)
    incidents.close()
    incidents(OllamaStatus(up=True))

    assert incidents.dropped == 1
    [note] = told
    assert (note.event, note.level) == ("incident.lost", "warning")
    assert note.fields["reason"].startswith("cannot write ")


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fchmod", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, {"at": "2026-11-23T08:00:00Z", "cause": "exited"})

    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_drops_the_newest_and_never_blocks(incidents, told, monkeypatch):
    disk = threading.Event()
    monkeypatch.setattr(edge, "write", lambda *_: disk.wait())
    for number in range(40):
        live(incidents, number, Cause.EXITED, 1)
    disk.set()
    incidents.close()
    incidents(Note("anything.happened"))

    assert incidents.dropped in (40 - edge.WAITING, 40 - edge.WAITING - 1)  # one may have been taken out already
    assert {note.event for note in told} == {"incident.lost"}
