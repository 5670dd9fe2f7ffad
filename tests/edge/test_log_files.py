"""Rotation by size, calendar and order; compression; what is kept. Never a byte lost or written twice."""

import gzip
import os
import time
from datetime import datetime

import pytest

from ccproxy_supervisor.core.settings import LogSettings
from ccproxy_supervisor.edge.logs import LogCounters, packer
from logbook import Book, book, threads, until

MONDAY = datetime.fromisoformat("2026-11-23T00:00:00").timestamp()
NUMBERED = (
    "import sys; sys.stdout.write(''.join(f'{number:06} {chr(97 + number % 26) * 113}\\n' for number in range(40_000)))"
)
FLOOD = b"".join(b"%06d %s\n" % (number, bytes([97 + number % 26]) * 113) for number in range(40_000))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """No waiting for a lull before compressing."""
    monkeypatch.setattr(packer, "CALM", 0.01)


class Clock:
    """Wall time that begins at *now* and can be set."""

    def __init__(self, now):
        self.set(now)

    def set(self, now):
        self._ahead = now - time.monotonic()

    def __call__(self):
        return self._ahead + time.monotonic()


@pytest.mark.parametrize("compress", [False, True])
def test_rotation_under_a_flood_loses_and_doubles_nothing(tmp_path, compress):
    with book(tmp_path, max_size=300_000, keep=100, compress=compress) as logs:
        logs.run(NUMBERED)
        assert logs.close() == []
        until(lambda: not threads())
        assert logs.everything("stdout") == FLOOD
        rotated = logs.rotated("stdout")
        assert logs.sink.counters()["stdout"] == LogCounters(len(FLOOD), len(rotated), 0)
        plain = [path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".gz"]
        assert len(rotated) == 16
        assert max(plain) <= 300_000


def test_a_line_longer_than_the_limit_has_a_file_of_its_own(tmp_path):
    with book(tmp_path, max_size=10, compress=False) as logs:
        logs.say(b"short\nthis line is too long\nok\nok\nok\nok\n")
        logs.close()
        sizes = [(tmp_path / name).read_bytes() for name in logs.rotated("stdout")]
        assert [*sizes, logs.text("stdout")] == [b"short\n", b"this line is too long\n", b"ok\nok\nok\n", b"ok\n"]


def test_an_existing_file_is_continued(tmp_path):
    for part in (b"first\n", b"second\n"):
        with book(tmp_path) as logs:
            logs.say(part)
    assert logs.everything("stdout") == b"first\nsecond\n"


def test_a_line_torn_by_a_crash_is_not_continued(tmp_path):
    (tmp_path / "stdout.log").write_bytes(b"whole\ntor")
    with book(tmp_path) as logs:
        logs.say(b"next\n")
    assert logs.everything("stdout") == b"whole\ntor\nnext\n"


def test_a_rotated_file_is_compressed_and_keeps_its_time_and_its_secrecy(tmp_path):
    with book(tmp_path) as logs:
        logs.say(b"line\n" * 100_000)
        until(lambda: logs.text("stdout").count(b"\n") == 100_000)
        os.utime(tmp_path / "stdout.log", (MONDAY, MONDAY))
        logs.sink.rotate()
        until(lambda: [name[-3:] for name in logs.rotated("stdout")] == [".gz"])
        (name,) = logs.rotated("stdout")
        assert gzip.decompress((tmp_path / name).read_bytes()) == b"line\n" * 100_000
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / name).stat().st_mtime == MONDAY
        assert logs.text("stdout") == b""


def test_only_so_many_are_kept_and_the_newest_stay(tmp_path):
    with book(tmp_path, max_size=10, keep=3, compress=False) as logs:
        for number in range(20):
            logs.say(b"line %03d\n" % number)
        logs.close()
        assert logs.everything("stdout") == b"line 016\nline 017\nline 018\nline 019\n"


def test_the_oldest_of_all_logs_give_way_to_the_total_also_while_a_file_grows(tmp_path):
    part, clock = b"x" * 99_999 + b"\n", Clock(MONDAY)
    with book(tmp_path, clock, max_size=100_000, max_total=550_000, compress=False) as logs:
        for _ in range(4):
            logs.say(part, stream="stderr")
        until(lambda: len(logs.everything("stderr")) == 400_000)
        clock.set(MONDAY + 60)
        for _ in range(4):
            logs.say(part)
        logs.close()
        assert logs.everything("stdout") == part * 4
        assert logs.everything("stderr") == part


def test_an_order_rotates_what_has_content_and_nothing_else(tmp_path):
    with book(tmp_path, compress=False) as logs:
        logs.say(b"before\n")
        until(lambda: logs.text("stdout"))
        logs.sink.rotate()
        until(lambda: logs.rotated("stdout"))
        logs.say(b"after\n")
        logs.close()
        assert (logs.everything("stdout"), logs.text("stdout")) == (b"before\nafter\n", b"after\n")
        assert logs.rotated("stderr") == []


def test_a_file_moved_by_somebody_else_is_opened_again_and_not_rotated(tmp_path):
    with book(tmp_path) as logs:
        logs.say(b"before\n")
        until(lambda: logs.text("stdout"))
        os.rename(tmp_path / "stdout.log", tmp_path / "theirs")
        logs.sink.rotate()
        until((tmp_path / "stdout.log").exists)
        logs.say(b"after\n")
        logs.close()
        assert ((tmp_path / "theirs").read_bytes(), logs.text("stdout")) == (b"before\n", b"after\n")
        assert logs.rotated("stdout") == []


def almost_monday(clock, logs):
    """Set the clock just before the boundary; a line of another log wakes the writer, which sees it."""
    clock.set(MONDAY - 0.2)
    logs.sink.write("supervisor", b"x\n")


def test_an_idle_log_rotates_at_the_boundary_and_bears_its_name(tmp_path):
    clock = Clock(MONDAY - 1800)
    with book(tmp_path, clock, compress=False) as logs:
        logs.say(b"last week\n")
        until(lambda: logs.text("stdout"))
        almost_monday(clock, logs)
        until(lambda: logs.rotated("stdout"))
        assert logs.rotated("stdout") == ["stdout.log.20261123-000000"]
        logs.say(b"this week\n")
        logs.close()
        assert logs.text("stdout") == b"this week\n"
        assert logs.rotated("stderr") == []


def test_a_log_of_an_earlier_period_is_rotated_at_the_start(tmp_path):
    (tmp_path / "stdout.log").write_bytes(b"long ago\n")
    os.utime(tmp_path / "stdout.log", (MONDAY - 3600, MONDAY - 3600))
    (tmp_path / "stderr.log").write_bytes(b"just now\n")
    os.utime(tmp_path / "stderr.log", (MONDAY + 3600, MONDAY + 3600))
    with book(tmp_path, Clock(MONDAY + 86_400), compress=False) as logs:
        until(lambda: logs.rotated("stdout"))
        logs.close()
        assert logs.rotated("stdout") == ["stdout.log.20261123-000000"]
        assert (logs.rotated("stderr"), logs.text("stderr")) == ([], b"just now\n")


def test_a_clock_set_back_rotates_nothing_and_stops_no_later_rotation(tmp_path):
    clock = Clock(MONDAY + 30 * 86_400)
    with book(tmp_path, clock, compress=False) as logs:
        logs.say(b"from the future\n")
        until(lambda: logs.text("stdout"))
        clock.set(MONDAY - 1800)
        logs.say(b"from the past\n")
        until(lambda: logs.text("stdout") == b"from the future\nfrom the past\n")
        almost_monday(clock, logs)
        until(lambda: logs.rotated("stdout"))
        assert logs.rotated("stdout") == ["stdout.log.20261123-000000"]


def test_never_means_size_only(tmp_path):
    clock = Clock(MONDAY)
    with book(tmp_path, clock, rotate="never", compress=False) as logs:
        logs.say(b"a\n")
        clock.set(MONDAY + 400 * 86_400)
        logs.say(b"b\n")
        logs.close()
        assert logs.text("stdout") == b"a\nb\n"


def test_what_a_crash_left_is_put_in_order_at_the_start(tmp_path):
    packed = gzip.compress(b"complete\n")
    (tmp_path / "stdout.log.20261101-000000").write_bytes(b"complete\n")
    (tmp_path / "stdout.log.20261101-000000.gz").write_bytes(packed)
    (tmp_path / "stdout.log.20261102-000000").write_bytes(b"not yet\n")
    (tmp_path / "stdout.log.20261102-000000.gz.part").write_bytes(packed[:9])
    (tmp_path / "notes.txt").write_bytes(b"mine")
    with book(tmp_path, Clock(MONDAY)) as logs:
        until((tmp_path / "stdout.log.20261102-000000.gz").exists)
        logs.close()
        until(lambda: not threads())
        assert logs.rotated("stdout") == ["stdout.log.20261101-000000.gz", "stdout.log.20261102-000000.gz"]
        assert logs.everything("stdout") == b"complete\nnot yet\n"
        assert not list(tmp_path.glob("*.part"))
        assert (tmp_path / "notes.txt").exists()


def test_other_settings_are_adopted_in_place(tmp_path):
    with book(tmp_path / "one", compress=False) as logs:
        logs.say(b"line 1\nline 2\n")
        until(lambda: logs.text("stdout"))
        logs.sink.adopt(LogSettings(max_size=8, compress=False))
        logs.say(b"line 3\nline 4\n")
        until(lambda: len(logs.rotated("stdout")) == 2)
        logs.sink.adopt(LogSettings(keep=1, compress=False))
        until(lambda: len(logs.rotated("stdout")) == 1)
        assert logs.everything("stdout") == b"line 3\nline 4\n"
        logs.sink.adopt(LogSettings(compress=False), tmp_path / "two")
        until((tmp_path / "two/stdout.log").exists)
        logs.say(b"line 5\n")
        logs.close()
        assert Book(tmp_path / "two").text("stdout") == b"line 5\n"
        assert logs.text("stdout") == b"line 4\n"
