"""Four logs shown as one: in order, filtered, followed, and never more of them in memory than is shown."""

import gzip
import io
import json
import os
import random
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.cli import logs as module
from ccproxy_supervisor.view import files
from ccproxy_supervisor.view.entry import read
from ccproxy_supervisor.view.files import LogFiles, backwards
from ccproxy_supervisor.view.follow import Follower
from ccproxy_supervisor.view.lines import Lines
from terminal import Terminal, bare

EIGHT = datetime(2026, 11, 23, 8, tzinfo=UTC).timestamp()
TODAY = "2026-11-23"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def stamp(seconds):
    return datetime.fromtimestamp(EIGHT + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def said(seconds, level="info", **fields):
    """A line of supervisor.log, or of litellm.log if it has a message."""
    return json.dumps({"time": stamp(seconds), "level": level} | fields)


def write(folder, name, *lines, at=0.0):
    """A log whose last line was written *at* seconds past eight."""
    data = "".join(f"{line}\n" for line in lines).encode()
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    os.utime(path, (EIGHT + at, EIGHT + at))


def logs(folder, *options):
    told = CliRunner().invoke(module.logs, ["--config", str(folder.parent / "supervisor.yaml"), *options])
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told


def shown(folder, *options):
    """What is shown but for the dates, which depend on the day the tests run."""
    told = logs(folder, *options)
    assert told.exit_code == 0
    return [line for line in told.stdout.splitlines() if not line.startswith("--")]


def test_the_four_are_merged_by_time_however_each_tells_it(folder):
    write(
        folder,
        "supervisor.log",
        said(1, event="worker.starting", worker=1),
        said(5, event="worker.serving", worker=1),
        at=5,
    )
    write(folder, "litellm.log", said(2, logger="uvicorn.error", worker=1, message="started"), at=2)
    write(folder, "stdout.log", "banner", "08:00:03 - LiteLLM: ready", "no time, before the end", at=4)
    write(folder, "stderr.log", "Traceback", at=6)
    assert shown(folder) == [
        "08:00:01 info    worker.starting      worker=1",
        "08:00:02 info    uvicorn.error: started worker=1",
        "         stdout  banner",
        "08:00:03 stdout  08:00:03 - LiteLLM: ready",
        "         stdout  no time, before the end",
        "08:00:05 info    worker.serving       worker=1",
        "         stderr  Traceback",
    ]


def test_only_the_named_ones(folder):
    write(folder, "stdout.log", "out")
    write(folder, "stderr.log", "err")
    assert shown(folder, "stderr") == ["         stderr  err"]
    assert logs(folder, "other").exit_code == 2


def test_a_bare_clock_of_before_midnight_is_yesterdays(folder):
    assert read("stdout", b"\x1b[92m23:59:59 - late", EIGHT).time == EIGHT - 8 * 3600 - 1
    assert read("stdout", b"07:00:00 early", EIGHT).time == EIGHT - 3600
    assert read("stdout", b"25:00:00 no clock", EIGHT).time is None


def test_a_clock_set_back_keeps_the_order_of_the_file(folder):
    write(folder, "supervisor.log", said(50, event="one"), said(10, event="two"), said(20, event="three"), at=20)
    assert [line.split()[2] for line in shown(folder)] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "line", ['{"time": "never"}', '{"time": 3}', '{"half": ', "{}", "{" * 5000, '{"time": null}', "[1]"]
)
def test_a_worker_may_print_anything(folder, line):
    write(folder, "stdout.log", line)
    assert shown(folder) == [f"         stdout  {line}"]


def test_levels_and_those_that_have_none(folder):
    lines = [said(n, level, event=level) for n, level in enumerate(("debug", "info", "warning", "error", "critical"))]
    write(folder, "supervisor.log", *lines)
    write(folder, "stdout.log", "out")
    write(folder, "stderr.log", "err")
    assert [line.split()[-1] for line in shown(folder, "--level", "warning")] == ["err", "warning", "error", "critical"]
    assert len(shown(folder, "--level", "debug")) == 7


def test_of_one_worker(folder):
    write(
        folder, "supervisor.log", said(1, event="a", worker=1), said(2, event="b", worker=11),
        said(3, event="c", subject="worker 1"), said(4, event="d", subject="model 1"), said(5, event="e"),
    )  # fmt: skip
    write(folder, "litellm.log", said(6, logger="f", worker=1, message=""), at=6)
    write(folder, "stderr.log", "1")
    assert [line.split()[2] for line in shown(folder, "--worker", "1")] == ["a", "c", "f:"]


def test_the_last_lines_and_how_many(folder):
    write(folder, "supervisor.log", *(said(n, event=f"s{n}") for n in range(0, 200, 2)), at=200)
    write(folder, "litellm.log", *(said(n, event=f"l{n}") for n in range(1, 200, 2)), at=200)
    assert [line.split()[2] for line in shown(folder, "-n", "3")] == ["l197", "s198", "l199"]
    assert len(shown(folder)) == 50
    assert shown(folder, "-n", "0") == []


def test_what_was_rotated_away_is_shown_too_and_no_archive_is_opened_before_its_turn(folder, monkeypatch):
    opened = []
    monkeypatch.setattr(files, "unpacked", lambda *args, real=files.unpacked: opened.append(args[1]) or real(*args))
    write(folder, "stdout.log.20261123-060000.gz", *"ab", at=-7200)
    write(folder, "stdout.log.20261123-070000.gz", *"cd", at=-3600)
    write(folder, "stdout.log", *"ef")
    assert [line[-1] for line in shown(folder, "-n", "1")] == ["f"]
    assert opened == []
    assert [line[-1] for line in shown(folder, "-n", "3")] == ["d", "e", "f"]
    assert [archive.stamp for archive in opened] == ["20261123-070000"]
    assert [line[-1] for line in shown(folder)] == ["a", "b", "c", "d", "e", "f"]


def test_a_search_for_what_is_rare_ends_and_says_so(folder, monkeypatch):
    monkeypatch.setattr(module, "MANY", 60)
    write(folder, "supervisor.log.20261123-070000", said(0, "error", event="old"), at=0)
    write(folder, "supervisor.log", *(said(n, event="x") for n in range(1, 61)), at=60)
    told = logs(folder, "--level", "error")
    assert told.stdout == ""
    assert told.stderr == "only the last 60 lines were looked at; --since goes further back\n"
    assert [line.split()[2] for line in shown(folder, "--level", "error", "--since", "2026-11-22")] == ["old"]
    assert len(shown(folder, "-n", "61")) == 61


def test_since_reads_what_was_rotated_and_nothing_older(folder):
    names = ["stdout.log.20261123-070000.gz", "stdout.log.20261123-071000", "stdout.log.20261123-071000.1.gz"]
    for minute, name in zip((50, 40, 30), names, strict=True):
        write(folder, name, f"before {minute}", f"at {minute}", at=-60 * minute)
    write(folder, "stdout.log", "now", at=0)
    write(folder, "stdout.log.20261123-071000.gz", "the same again", at=-60 * 40)  # being compressed
    write(folder, "stdout.log.20261123-071000.2.gz.part", "unfinished")
    since = ["--since", "2026-11-23T07:19"]
    assert [line[17:] for line in shown(folder, *since)] == ["before 40", "at 40", "before 30", "at 30", "now"]
    assert [line[17:] for line in shown(folder, *since, "-n", "2")] == ["at 30", "now"]
    assert "older lines are left out" in logs(folder, *since, "-n", "2").stderr
    assert logs(folder, *since).stderr == ""


def test_since_takes_durations_and_says_what_it_cannot_read(folder):
    write(
        folder, "supervisor.log", said(time.time() - EIGHT - 7200, event="old"), said(time.time() - EIGHT, event="new")
    )
    os.utime(folder / "supervisor.log")
    assert [line.split()[2] for line in shown(folder, "--since", "1h30m")] == ["new"]
    told = logs(folder, "--since", "yesterday")
    assert told.exit_code == 2
    assert "neither a duration like 10m nor a time" in told.stderr


def test_a_broken_archive_shows_what_is_whole(folder):
    write(folder, "stdout.log.20261123-070000.gz", *(f"line {n} {random.random()}" for n in range(9999)))
    path = folder / "stdout.log.20261123-070000.gz"
    path.write_bytes(path.read_bytes()[:-1000])
    write(folder, "stdout.log.20261123-060000.gz", "fine")
    (folder / "stdout.log.20261123-050000.gz").write_bytes(b"not gzip")
    lines = shown(folder, "--since", "2026-11-01", "-n", "20000")
    assert lines[0].endswith("fine")
    assert len(lines) > 5000


def test_a_huge_file_is_read_from_its_end_only(folder, monkeypatch):
    with (folder / "stdout.log").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"line\n" * 100)
    parts = []
    monkeypatch.setattr(files, "_part", lambda *args, real=files._part: parts.append(real(*args)) or parts[-1])
    assert shown(folder, "-n", "20") == ["         stdout  line"] * 20
    assert sum(map(len, parts)) <= 2 * files.BLOCK


def test_a_line_without_an_end_is_shown_in_parts(folder):
    (folder / "stdout.log").write_bytes(b"x" * (3 * files.LONGEST) + b"\nlast")
    lines = shown(folder, "-n", "9")
    assert lines[-1].endswith("last")
    assert sum(line.count("x") for line in lines) == 3 * files.LONGEST


@given(st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"\n")), st.integers(1, 9))
def test_backwards_is_forwards_turned_around(data, block):
    expected = data.removesuffix(b"\n").split(b"\n") if data.strip(b"\n") else None
    whole, files.BLOCK = files.BLOCK, block
    try:
        found = list(backwards(io.BytesIO(data), len(data)))
    finally:
        files.BLOCK = whole
    if expected is None:
        assert all(line == b"" for line in found)
    else:
        assert found == expected[::-1]


def test_raw_lines_are_the_bytes_of_the_files(folder):
    line = said(1, event="x", text="ä")
    (folder / "supervisor.log").write_text(line + "\n")
    (folder / "stdout.log").write_bytes(b"\xff\x1b[31m\r\n")
    os.utime(folder / "stdout.log", (EIGHT + 2, EIGHT + 2))
    assert logs(folder, "--raw").stdout_bytes == line.encode() + b"\n\xff\x1b[31m\r\n"
    assert logs(folder, "--json", "supervisor").stdout_bytes == line.encode() + b"\n"


def test_what_workers_print_cannot_command_the_terminal(folder):
    (folder / "stdout.log").write_bytes(b"\x1b]0;title\x07 \xff \r over\n")
    write(folder, "supervisor.log", said(0, event="a\x1b[2J", key="b\x1b[2J"))
    text = logs(folder).stdout
    assert r"\x1b]0;title\x07" in text
    assert not any(char in text for char in "\x1b\x07\r")


def test_everything_of_a_line_is_shown_and_long_things_below_it():
    output = ["Traceback", "MemoryError"]
    line = said(0, "error", event="worker.gone", worker=3, slot=None, cause="exited", detail="a b", empty="", list=[1],
                output=output)  # fmt: skip
    assert Lines(TODAY, colour=False).show(read("supervisor", line.encode(), EIGHT)).splitlines() == [
        '08:00:00 error   worker.gone          worker=3 cause=exited detail="a b" empty="" list=[1]',
        "         | Traceback",
        "         | MemoryError",
    ]
    line = said(0, "error", logger="LiteLLM", worker=3, message="two\nlines", exception="Traceback\n  ValueError\n")
    assert Lines(TODAY, colour=False).show(read("litellm", line.encode(), EIGHT)).splitlines() == [
        "08:00:00 error   LiteLLM: two",
        "lines worker=3",
        "         | Traceback",
        "         |   ValueError",
    ]


def test_another_day_is_announced_once():
    lines = Lines(TODAY, colour=False)
    days = [lines.show(read("supervisor", said(86400 * day, event="x").encode(), EIGHT * 2)) for day in (-1, -1, 0)]
    assert [text.count("--") for text in days] == [1, 0, 1]
    assert days[0].startswith("-- 2026-11-22\n08:00:00 info    x")


def test_colours_only_on_a_terminal_that_wants_them(folder):
    write(folder, "supervisor.log", said(0, "error", event="worker.gone"))
    command = [sys.executable, "-m", "ccproxy_supervisor", "logs", "--config", str(folder.parent / "supervisor.yaml")]
    with Terminal(command) as terminal:
        code, text = terminal.end()
        assert "\x1b[31merror  \x1b[0m" in text
        assert code == 0
    with Terminal(command, NO_COLOR="1") as terminal:
        assert terminal.end()[1].count("\x1b") == 0
    assert "\x1b" not in logs(folder).stdout


def test_a_reader_that_leaves_is_no_error(folder):
    write(folder, "stdout.log", *("x" * 100 for _ in range(9999)))
    command = [sys.executable, "-m", "ccproxy_supervisor", "logs", "--config", str(folder.parent / "supervisor.yaml")]
    child = subprocess.Popen([*command, "-n", "9999"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    child.wait()


def test_without_a_folder_it_says_so(tmp_path):
    told = logs(tmp_path / "logs")
    assert told.exit_code == 1
    assert told.stderr == f"cannot show the logs: there is no folder {tmp_path}/logs; has the daemon ever run?\n"


def test_the_folder_is_where_the_settings_say(folder, tmp_path):
    (tmp_path / "supervisor.yaml").write_text("logs: {directory: other}\nbroken: true")
    folder.rename(tmp_path / "other")
    write(tmp_path / "other", "stdout.log", "found")
    assert shown(folder) == ["         stdout  found"]


# Following.


class Growing:
    """A log that grows, is rotated and compressed, and somebody who follows it."""

    def __init__(self, folder):
        self.folder, self.path, self.stamps = folder, folder / "stdout.log", iter(range(10, 10_000))
        self.path.touch()
        self.files = LogFiles(folder, "stdout", whole=True)
        self.follower = Follower(self.files)

    def say(self, data):
        with self.path.open("ab") as file:
            file.write(data)

    def rotate(self, *, pack=False):
        moved = self.folder / f"stdout.log.20261123-080000.{next(self.stamps)}"
        os.rename(self.path, moved)
        if pack:
            (self.folder / f"{moved.name}.gz").write_bytes(gzip.compress(moved.read_bytes()))
            moved.unlink()
        self.path.touch()

    def news(self):
        return [entry.line for entry in self.follower.news(EIGHT)]


@pytest.fixture
def log(folder):
    log = Growing(folder)
    yield log
    log.files.close()


def test_new_lines_come_with_the_time_they_came_at(log):
    log.say(b"one\ntwo\n")
    (one, two) = log.follower.news(EIGHT)
    assert (one.line, one.time, two.at) == (b"one", EIGHT, EIGHT)
    assert log.news() == []


def test_an_unfinished_line_waits_for_its_end(log):
    log.say(b"half")
    assert log.news() == []
    log.say(b" and half\nnext")
    assert log.news() == [b"half and half"]


@pytest.mark.parametrize("pack", [False, True])
def test_a_rotation_loses_and_repeats_nothing(log, pack):
    log.say(b"one\n")
    assert log.news() == [b"one"]
    log.say(b"two\nunfinished")
    log.rotate(pack=pack)
    log.say(b"three\n")
    assert log.news() == [b"two", b"unfinished", b"three"]


@pytest.mark.parametrize("pack", [False, True])
def test_several_rotations_between_two_looks_lose_nothing(log, pack):
    for number in range(4):
        log.say(b"%d\n" % number)
        log.rotate(pack=pack)
    log.say(b"last\n")
    assert log.news() == [b"0", b"1", b"2", b"3", b"last"]


def test_a_file_that_is_emptied_is_read_from_its_start(log):
    log.say(b"one\nhalf")
    assert log.news() == [b"one"]
    os.truncate(log.path, 0)
    assert log.news() == []
    log.say(b"2\n")
    assert log.news() == [b"2"]


def test_a_file_that_does_not_exist_yet_is_waited_for(folder):
    with closing(LogFiles(folder, "stdout", whole=True)) as none:
        follower = Follower(none)
        assert list(follower.news(EIGHT)) == []
        write(folder, "stdout.log", "first")
        assert [entry.line for entry in follower.news(EIGHT)] == [b"first"]


def test_a_removed_file_is_waited_for_too(log):
    log.path.unlink()
    assert log.news() == []
    log.say(b"again\n")
    assert log.news() == [b"again"]


def test_whatever_happens_between_two_looks_every_line_comes_once(log):
    rules = random.Random(7)
    expected, found, count = [], [], 0
    for _ in range(600):
        match rules.randrange(8):
            case 0:
                log.rotate(pack=rules.random() < 0.5)
            case 1 | 2:
                found += log.news()
            case _:
                count += 1
                expected.append(b"line %d" % count)
                log.say(expected[-1] + b"\n")
    assert found + log.news() == expected


def test_the_past_and_what_follows_meet_without_a_seam(folder, monkeypatch):
    (folder / "stdout.log").write_bytes(b"whole\nunfin")
    write(folder, "supervisor.log", said(1, event="before"))

    def more():
        with (folder / "stdout.log").open("ab") as file:
            file.write(b"ished\n")
        with (folder / "supervisor.log").open("a") as file:
            file.write(said(time.time() - EIGHT, event="after") + "\n")

    def interrupt():
        raise KeyboardInterrupt

    steps = iter([more, interrupt])
    monkeypatch.setattr(module, "time", SimpleNamespace(time=time.time, sleep=lambda _: next(steps)()))
    assert [line.split()[-1] for line in shown(folder, "-f")] == ["before", "whole", "after", "unfinished"]


def test_following_is_left_quietly(folder):
    write(folder, "stdout.log", "there")
    command = [
        sys.executable,
        "-m",
        "ccproxy_supervisor",
        "logs",
        "-f",
        "--config",
        str(folder.parent / "supervisor.yaml"),
    ]
    with Terminal(command) as terminal:
        terminal.until("there")
        (folder / "stdout.log").write_text("there\nmore\n")
        terminal.until("more")
        terminal.interrupt()
        code, rest = terminal.end()
    assert (code, bare(rest).strip()) == (0, "")
