"""What survives a restart, and which processes count as ours."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ccproxy_supervisor.core.history import Day, Past
from ccproxy_supervisor.core.model import Cause, Ending
from ccproxy_supervisor.core.policy import Record
from ccproxy_supervisor.edge.state import Recorded, Saved, Slot, StateFile, leftovers

SAVED = Saved(
    slots={0: Slot(Record(4, 8.0), 17, Ending(Cause.EXITED, 0.5, 1e9, -9, "why", ("last", "words"))), 3: Slot()},
    workers=(Recorded(4242, 1e9, "/home/run/w3.sock"),),
    day=Day(1e9, ((1e9, "healthy"),), {0: ((1e9, "serving"),)}, (Past(1, None, 2, Ending(Cause.AGE, 0.5, 1e9)),)),
)
LAUNCHER = "/somewhere/launcher.py"
SOCKET = "/somewhere/run/w3.sock"


@pytest.fixture
def notes():
    return []


@pytest.fixture
def file(tmp_path, notes):
    return StateFile(tmp_path / "state.json", notes.append)


def test_what_was_written_is_read(file, tmp_path):
    file.write(SAVED)

    assert file.read() == SAVED
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_file_that_does_not_say_how_its_supervisor_ended_accuses_nobody(file, tmp_path):
    (tmp_path / "state.json").write_text("{}")

    assert file.read().closed


def test_no_file_is_no_history(file, notes):
    assert (file.read(), notes) == (Saved(), [])


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"{", b"\x00\xff", b"[]", b'{"workers": 3}', b"9" * (2 << 20),
        b'{"workers": [{"pid": -1, "started": 0, "socket": "x"}]}',
        b'{"workers": [{"pid": 1, "started": 0, "socket": "x"}]}',
        b'{"slots": {"zero": {}}}', b'{"slots": {"0": {"record": {"failures": "x"}}}}',
    ],
)  # fmt: skip
def test_garbage_is_no_history_and_is_told(file, notes, tmp_path, garbage):
    (tmp_path / "state.json").write_bytes(garbage)

    assert file.read() == Saved()
    assert [note.event for note in notes] == ["state.ignored"]


def test_a_folder_in_its_place_is_told_too(file, notes, tmp_path):
    (tmp_path / "state.json").mkdir()

    assert file.read() == Saved()
    file.write(SAVED)
    assert [note.event for note in notes] == ["state.ignored", "state.unsaved"]
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_nothing_new_is_not_written_again(file, tmp_path):
    file.write(SAVED)
    (tmp_path / "state.json").unlink()
    file.write(SAVED)

    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told_and_the_next_write_succeeds(notes, tmp_path):
    file = StateFile(tmp_path / "run" / "state.json", notes.append)
    file.write(SAVED)
    (tmp_path / "run").mkdir()
    file.write(SAVED)

    assert [note.event for note in notes] == ["state.unsaved"]
    assert file.read() == SAVED


@pytest.fixture
def worker():
    """A process that looks like a worker of ours, in a session of its own."""
    command = [sys.executable, "-c", "import time; time.sleep(60)", LAUNCHER, "--uds", SOCKET]
    process = subprocess.Popen(command, start_new_session=True)
    while not psutil.Process(process.pid).cmdline():  # for an instant of its exec it has none
        time.sleep(0.001)
    yield process
    process.kill()
    process.wait()


def ours(words):
    return LAUNCHER in words


def recorded(process, **changed):
    known = {"pid": process.pid, "started": psutil.Process(process.pid).create_time(), "socket": SOCKET}
    return Recorded(**known | changed)


def test_a_worker_that_still_runs_is_found_and_asked_to_leave(worker):
    [left] = leftovers([recorded(worker)], ours)

    assert left.alive
    left.ask()
    assert worker.wait(5) == -signal.SIGTERM
    assert not left.alive


def test_one_that_does_not_leave_is_killed_with_its_group(worker):
    [left] = leftovers([recorded(worker)], ours)

    left.kill()
    assert worker.wait(5) == -signal.SIGKILL
    left.kill()  # nobody there: nothing happens


@pytest.mark.parametrize(
    ("changed", "ours"),
    [
        ({"started": 1e9}, ours),
        ({"socket": "/elsewhere/run/w3.sock"}, ours),
        ({}, lambda words: False),
        ({"pid": 2**31 - 1}, ours),
        ({"pid": 2**80}, ours),
    ],
)
def test_a_process_that_fails_any_part_of_the_proof_is_not_ours(worker, changed, ours):
    assert leftovers([recorded(worker, **changed)], ours) == []


def test_the_proof_is_made_again_before_each_signal(worker, monkeypatch):
    [left] = leftovers([recorded(worker)], ours)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 1e9)  # the pid now belongs to somebody else

    left.ask()
    left.kill()
    monkeypatch.undo()
    assert worker.poll() is None


def test_the_dead_are_not_found(worker):
    record = recorded(worker)
    worker.kill()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # a zombie

    assert leftovers([record], ours) == []
