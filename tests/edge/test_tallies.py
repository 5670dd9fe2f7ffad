"""Tallies of workers that live, are killed, or are adopted; taken into the ledger by supervisors that are killed too."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from ccproxy_supervisor.core.model import State, Transition
from ccproxy_supervisor.core.traffic import DAY, HOUR, Key, by
from ccproxy_supervisor.edge.traffic import Tallies, TrafficNumbers, usage
from ccproxy_supervisor.edge.traffic.ledger import Ledger
from ccproxy_supervisor.launcher.tally import ROWS, Book, Tally
from scraped import samples

KEY = Key("llama", "chat", "eva")
WORKER = """
import sys
sys.path.insert(0, {root!r})
from ccproxy_supervisor.launcher.tally import Tally
row = Tally({run!r}, 1).row("llama", "chat", "eva")
print("ready", flush=True)
for line in sys.stdin:
    field, by = line.rsplit(maxsplit=1)
    row.add(field, int(by))
    print("done", flush=True)
"""


class Worker:
    """A process that counts what it is told."""

    def __init__(self, run):
        code = WORKER.format(root=str(Path(__file__).parents[2]), run=str(run))
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def count(self, field, by=1):
        self.process.stdin.write(f"{field} {by}\n".encode())
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"done\n"

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def run(tmp_path):
    return tmp_path


@pytest.fixture
def worker(run):
    worker = Worker(run)
    yield worker
    worker.kill()


class Clock:
    now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def begin(run, clock):
    """Begin a supervisor's tallies; what they say is in `begin.said`."""

    def begun():
        tallies = Tallies(run, said.append, clock)
        made.append(tallies)
        tallies.start()
        return tallies

    said, made = [], []
    begun.said = said
    yield begun
    for tallies in made:  # those that were killed
        tallies._ledger.close()


def total(tallies):
    return tallies.totals()[0].get(KEY, {})


def test_a_worker_is_seen_while_it_counts_and_what_it_was_killed_in_is_lost(run, worker, begin):
    tallies = begin()
    worker.count("ok", 3)
    worker.count("in_flight", 2)
    assert (total(tallies), tallies.totals()[1]) == ({"ok": 3}, {KEY: {"in_flight": 2}})
    worker.kill()
    assert (total(tallies), tallies.totals()[1]) == ({"ok": 3, "lost": 2}, {})
    tallies.close()
    assert list(run.glob("*.tally")) == []
    assert total(begin()) == {"ok": 3, "lost": 2}


def test_each_count_is_taken_once_by_supervisors_that_come_and_go_while_the_worker_lives(worker, begin):
    for round_ in range(1, 4):
        tallies = begin()
        worker.count("ok")
        assert total(tallies) == {"ok": round_}
        tallies.close()
        assert total(begin()) == {"ok": round_}
    worker.kill()
    assert total(begin()) == {"ok": 3}


@pytest.mark.parametrize("step", ["write", "drop", "forget"])
def test_a_supervisor_that_is_killed_in_the_middle_counts_nothing_twice(step, worker, begin, monkeypatch):
    """Before each of its steps it dies, and another begins with what is on the disk."""

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    worker.count("ok", 5)
    worker.kill()
    tallies = begin()
    monkeypatch.setattr(tallies._shelf if step == "drop" else tallies._ledger, step, die)
    with pytest.raises(Killed):
        tallies.close()
    for _ in range(2):
        later = begin()
        assert total(later) == {"ok": 5}
        later.close()


def test_a_worker_that_died_while_there_was_no_supervisor_is_taken_too(run, worker, begin):
    worker.count("ok", 5)
    worker.kill()
    assert total(begin()) == {"ok": 5}
    assert by(usage(run, 0.0), "client")["eva"] == {"ok": 5}


def test_a_ledger_that_cannot_be_read_is_put_aside_and_counting_goes_on(run, worker, begin):
    (run / "usage.db").write_bytes(b"nothing of ours" * 1000)
    worker.count("ok")
    tallies = begin()
    tallies.close()
    assert total(begin()) == {"ok": 1}
    assert [note.event for note in begin.said][:1] == ["usage.set_aside"]
    assert len(list(run.glob("usage.db.unreadable-*"))) == 1


def test_what_cannot_be_written_is_told_once_and_kept(run, worker, begin, monkeypatch):
    tallies = begin()
    monkeypatch.setattr(Ledger, "write", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk is full")))
    worker.count("ok", 2)
    for _ in range(3):
        assert not tallies._safely(lambda: tallies._put(tallies._look()))
    worker.kill()
    tallies.close()
    assert [note.event for note in begin.said] == ["usage.unsaved"]
    assert total(tallies) == {"ok": 2}
    monkeypatch.undo()
    assert total(begin()) == {"ok": 2}


def test_a_ledger_that_was_removed_is_written_anew_with_all_that_is_known(run, worker, begin):
    tallies = begin()
    worker.count("ok", 2)
    look = tallies._look()
    tallies._put(look)
    tallies._adopt(look)
    (run / "usage.db").unlink()
    worker.count("input", 7)
    tallies.close()
    assert total(begin()) == {"ok": 2, "input": 7}


def test_old_slots_become_hours_and_too_old_ones_go(run, worker, begin, clock):
    tallies = begin()
    for minutes in (0, 7, 14, 61):
        clock.now = 1_800_000_000.0 + 60 * minutes
        worker.count("ok")
        look = tallies._look()
        tallies._put(look)
        tallies._adopt(look)
    ledger, later = Ledger(run / "usage.db"), clock.now + DAY + 2 * HOUR
    assert sum(numbers["ok"] for _, numbers in ledger.since(0)) == 4 == len(list(ledger.since(0)))
    ledger.fold(later)
    assert sorted(numbers["ok"] for _, numbers in ledger.since(0)) == [1, 3]
    ledger.fold(later + 400 * DAY)
    assert list(ledger.since(0)) == []
    ledger.close()
    tallies.close()
    assert total(begin()) == {"ok": 4}


def test_while_nothing_is_counted_nothing_is_written(run, worker, begin):
    worker.count("ok")
    tallies = begin()
    look = tallies._look()
    tallies._put(look)
    tallies._adopt(look)
    before = (run / "usage.db").stat()
    tallies._put(tallies._look())
    assert (run / "usage.db").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.anyio
async def test_the_end_of_a_worker_has_it_taken_at_once(run, worker, begin):
    tallies = begin()
    worker.count("ok", 3)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tallies.run)
            await anyio.sleep(0.1)
            worker.kill()
            tallies(Transition(1, 0, 1, State.SERVING, State.GONE))
            while list(run.glob("*.tally")):  # noqa: ASYNC110 - a file tells nobody
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert total(tallies) == {"ok": 3}


def test_prometheus_sees_each_result_from_the_first_request_on(worker, begin):
    worker.count("ok", 2)
    worker.count("first_token 0.5", 2)
    worker.count("first_token sum", 700_000)
    seen = samples(TrafficNumbers(begin().totals))
    assert seen["ccproxy_requests_total{api=chat}{model=llama}{result=ok}"] == 2
    assert seen["ccproxy_requests_total{api=chat}{model=llama}{result=lost}"] == 0
    assert seen["ccproxy_client_requests_total{client=eva}{result=ok}"] == 2
    assert seen["ccproxy_request_first_token_seconds_bucket{le=0.35}{model=llama}"] == 0
    assert seen["ccproxy_request_first_token_seconds_bucket{le=0.5}{model=llama}"] == 2
    assert seen["ccproxy_request_first_token_seconds_sum{model=llama}"] == pytest.approx(0.7)


def test_more_rows_than_there_is_room_for_are_one(run):
    tally = Tally(str(run))
    for number in range(2 * ROWS):
        tally.row(f"m{number}", "chat", "eva").add("ok")
    tally.row("x" * 1000, "chat", "eva").add("ok")
    (path,) = run.glob("*.tally")
    rows = {key[0]: numbers for key, numbers in Book(str(path)).read()}
    assert len(rows) <= ROWS
    assert sum(numbers["ok"] for numbers in rows.values()) == 2 * ROWS + 1
    assert rows["other"]["ok"] > ROWS


def test_a_tally_is_for_its_owner_only_and_there_is_one_where_none_can_be_written(run):
    Tally(str(run))
    (path,) = run.glob("*.tally")
    assert path.stat().st_mode & 0o777 == 0o600
    Tally(str(run / "nowhere")).row("a", "chat", "b").add("ok")
    Tally(None).row("a", "chat", "b").observe("duration", 1.0)


@pytest.mark.parametrize(
    "spoil", [b"", b"{}\n", b'{"token": "x", "fields": [], "row": 0, "key": 0, "rows": 9}\n', b"\xff" * 99]
)
def test_what_is_no_tally_is_left_alone(run, begin, spoil):
    (run / "w1-x.tally").write_bytes(spoil)
    tallies = begin()
    assert tallies.totals() == ({}, {})
    tallies.close()
    assert (run / "w1-x.tally").exists()
