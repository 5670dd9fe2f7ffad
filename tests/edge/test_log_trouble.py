"""Disks that are full, slow, gone or hostile: workers never notice, bytes are counted, writing resumes by itself."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from ccproxy_supervisor.core.model import LOGS, Note
from ccproxy_supervisor.edge.logs import backlog, packer, writer
from ccproxy_supervisor.edge.logs.backlog import LIMIT
from logbook import Book, book, threads, until

LINE = b"x" * 119 + b"\n"
TALK = "import os\nfor _ in range({count}): os.write(1, (b'x' * 119 + b'\\n') * 100)"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """No patience, and no waiting for the next try or for a lull before compressing."""
    monkeypatch.setattr(packer, "CALM", 0.01)
    monkeypatch.setattr(writer, "RETRY", 0.0)
    monkeypatch.setattr(backlog, "PATIENCE", 0.05)


@contextmanager
def small_disk(folder):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def failed(log, reason):
    return Note("log.failed", "error", {"log": log, "reason": f"cannot write {log}.log: {reason}"})


def accounted(logs, log, size):
    """Whether *size* bytes of *log* were either written or counted as dropped."""
    counters = logs.sink.counters()[log]
    return counters.bytes + counters.dropped == size


def test_a_full_disk_drops_and_counts_and_writing_resumes(tmp_path):
    with small_disk(tmp_path / "disk") as disk, book(disk, compress=False) as logs:
        logs.run(TALK.format(count=200))
        until(lambda: accounted(logs, "stdout", 200 * 100 * len(LINE)))
        assert logs.note() == failed("stdout", "No space left on device")
        full = logs.text("stdout")
        assert full == LINE * (len(full) // len(LINE))
        assert 900_000 < len(full) == logs.sink.counters()["stdout"].bytes
        os.truncate(disk / "stdout.log", 0)
        logs.say(b"again\n")
        dropped = 200 * 100 * len(LINE) - len(full)
        assert logs.note() == Note("log.resumed", "info", {"log": "stdout", "dropped": dropped})
        assert logs.close() == []
        assert (logs.text("stdout"), logs.sink.counters()["stdout"].dropped) == (b"again\n", dropped)


def test_a_full_disk_keeps_the_rotated_file_uncompressed_until_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk") as disk, book(disk) as logs:
        noise = b"".join(b"%s\n" % os.urandom(40).hex().encode() for _ in range(4000))
        logs.say(noise)
        until(lambda: logs.text("stdout") == noise)
        with (disk / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"x" * 4096) == 4096:
                if os.statvfs(disk).f_bavail * 4096 <= 8192:
                    break
        logs.sink.rotate()
        reason = "cannot compress stdout.log: No space left on device"
        assert logs.note() == Note("log.failed", "error", {"log": "stdout", "reason": reason})
        (name,) = logs.rotated("stdout")
        assert (disk / name).read_bytes() == noise
        assert not list(disk.glob("*.part"))
        os.unlink(disk / "ballast")
        logs.say(b"more\n")
        until(lambda: logs.text("stdout"))
        logs.sink.rotate()
        assert logs.note() == Note("log.resumed", "info", {"log": "stdout", "dropped": 0})
        until(lambda: [each[-3:] for each in logs.rotated("stdout")] == [".gz", ".gz"])
        assert logs.everything("stdout") == noise + b"more\n"


def test_a_file_that_may_not_grow_keeps_whole_lines_and_counts_the_rest(tmp_path):
    code = """
import resource, sys
from pathlib import Path
from logbook import Book
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
logs = Book(Path(sys.argv[1]), compress=False)
logs.sink.start()
logs.say((b"x" * 119 + b"\\n") * 100)
notes = logs.close()
print(logs.sink.counters()["stdout"], [note.fields["reason"] for note in notes], sep="\\n")
"""
    env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], env=env, capture_output=True, text=True, check=True)
    assert (tmp_path / "stdout.log").read_bytes() == LINE * 83
    counters, reasons = done.stdout.splitlines()
    assert counters == f"LogCounters(bytes={83 * 120}, rotations=0, dropped={17 * 120})"
    assert reasons == "['cannot write stdout.log: File too large']"


def test_a_removed_folder_is_made_again_and_nothing_is_lost(tmp_path):
    with book(tmp_path / "logs") as logs:
        logs.say(b"before\n")
        until(lambda: logs.text("stdout"))
        for path in (tmp_path / "logs").iterdir():
            path.unlink()
        (tmp_path / "logs").rmdir()
        logs.say(b"after\n")
        assert logs.close() == []
        assert (logs.text("stdout"), logs.sink.counters()["stdout"].dropped) == (b"after\n", 0)
        assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700


def test_a_removed_file_is_made_again(tmp_path):
    with book(tmp_path) as logs:
        logs.say(b"before\n")
        until(lambda: logs.text("stdout"))
        (tmp_path / "stdout.log").unlink()
        logs.say(b"after\n")
        assert logs.close() == []
        assert logs.text("stdout") == b"after\n"


def test_a_file_in_place_of_the_folder_is_told_once_and_writing_resumes_when_it_is_gone(tmp_path):
    with book(tmp_path / "logs") as logs:
        until((tmp_path / "logs/stderr.log").exists)
        os.rename(tmp_path / "logs", tmp_path / "away")
        (tmp_path / "logs").write_text("in the way")
        for _ in range(3):
            logs.say(b"lost\n")
        until(lambda: logs.sink.counters()["stdout"].dropped == 15)
        assert logs.note() == failed("stdout", "Not a directory")
        os.unlink(tmp_path / "logs")
        logs.say(b"back\n")
        assert logs.note() == Note("log.resumed", "info", {"log": "stdout", "dropped": 15})
        assert logs.close() == []
        assert logs.text("stdout") == b"back\n"


def test_a_disk_that_refuses_is_not_asked_for_every_line(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "RETRY", 3600.0)
    (tmp_path / "logs").write_text("in the way")
    with book(tmp_path / "logs") as logs:
        assert {logs.note().fields["log"] for _ in LOGS} == set(LOGS)
        os.unlink(tmp_path / "logs")
        logs.say(b"lost\n")
        until(lambda: logs.sink.counters()["stdout"].dropped == 5)
        assert not (tmp_path / "logs").exists()


def test_a_link_in_place_of_a_log_is_not_followed(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "victim").write_bytes(b"precious\n")
    (tmp_path / "logs/stdout.log").symlink_to(tmp_path / "victim")
    with book(tmp_path / "logs") as logs:
        assert logs.note().fields["log"] == "stdout"
        logs.say(b"line\n")
        until(lambda: logs.sink.counters()["stdout"].dropped == 5)
        logs.close()
    assert (tmp_path / "victim").read_bytes() == b"precious\n"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_refused(tmp_path, kind):
    try:
        os.mkfifo(tmp_path / "stdout.log") if kind == "pipe" else os.mknod(
            tmp_path / "stdout.log", 0o020600, os.makedev(1, 7)
        )
    except PermissionError:
        pytest.skip("cannot make a device here")
    with book(tmp_path) as logs:
        assert logs.note().fields["log"] == "stdout"
        logs.say(b"line\n")
        until(lambda: logs.sink.counters()["stdout"].dropped == 5)


def test_a_disk_that_hangs_stops_no_worker(tmp_path):
    logs = Book(tmp_path)
    logs.sink._reader.start()  # and no writer: as if the first write never returned
    logs.run(TALK.format(count=2000))
    reason = "cannot keep up with stdout.log: the disk is slower than the workers write, or hangs"
    assert logs.close() == [Note("log.failed", "error", {"log": "stdout", "reason": reason})]
    dropped = logs.sink.counters()["stdout"].dropped
    assert 2000 * 100 * len(LINE) - LIMIT <= dropped < 2000 * 100 * len(LINE)
    assert dropped % len(LINE) == 0


def test_a_failed_rotation_goes_on_in_the_old_file(tmp_path, monkeypatch):
    with book(tmp_path, max_size=10, compress=False) as logs:
        logs.say(b"line 1\n")
        until(lambda: logs.text("stdout"))
        name = "stdout.log.20261123-000000"
        (tmp_path / name).mkdir()
        monkeypatch.setattr(writer, "archive_name", lambda *_: name)
        logs.say(b"line 2\n")
        assert logs.note().fields["reason"].startswith("cannot rotate stdout.log: ")
        os.rmdir(tmp_path / name)
        logs.say(b"line 3\n")
        assert logs.note() == Note("log.resumed", "info", {"log": "stdout", "dropped": 0})
        logs.close()
        assert ((tmp_path / name).read_bytes(), logs.text("stdout")) == (b"line 1\nline 2\n", b"line 3\n")


def test_no_note_is_made_of_a_failing_note(tmp_path):
    (tmp_path / "logs").touch()
    with book(tmp_path / "logs") as logs:
        assert {logs.note().fields["log"] for _ in LOGS} == set(LOGS)
        for _ in range(50):
            logs.sink.write("supervisor", b"log.failed\n")
        until(lambda: logs.sink.counters()["supervisor"].dropped == 50 * 11)
        assert logs.close() == []


def test_during_a_flood_nothing_is_compressed_and_a_packer_that_waits_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(packer, "CALM", 3600.0)
    with book(tmp_path, max_size=100_000) as logs:
        logs.run(TALK.format(count=100))
        until(lambda: accounted(logs, "stdout", 100 * 100 * len(LINE)))
        assert logs.close() == []
        until(lambda: not threads())
        assert {path.suffix for path in tmp_path.iterdir()}.isdisjoint({".gz", ".part"})
