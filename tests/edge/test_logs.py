"""Workers' output reaches its files byte by byte, line by line, without secrets."""

import base64
import os
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from ccproxy_supervisor.core.model import LOGS
from ccproxy_supervisor.edge.logs import LogCounters, LogSink, reader
from logbook import Book, book, drained, threads, until

KEY = b"sk-0123456789-abcdef"


@pytest.fixture
def logs(tmp_path):
    with book(tmp_path / "logs") as it:
        yield it


def test_each_stream_has_its_file_and_every_byte_is_verbatim(logs):
    capture = logs.sink.capture(1)
    code = "import os; os.write(1, b'out\\r\\n\\0\\xff\\n'); os.write(2, b'err\\n\\n'); os.write(int(os.sys.argv[1]), b'log')"
    subprocess.run(
        [sys.executable, "-c", code, str(capture.fds["litellm"])],
        stdout=capture.fds["stdout"], stderr=capture.fds["stderr"], pass_fds=[capture.fds["litellm"]], check=True,
    )  # fmt: skip
    capture.close_child_ends()
    assert drained(capture)
    logs.sink.write("supervisor", b"line")
    assert logs.close() == []
    assert [logs.text(log) for log in LOGS] == [b"line\n", b"log", b"out\r\n\0\xff\n", b"err\n\n"]
    counters = logs.sink.counters()
    assert counters["stdout"] == LogCounters(bytes=len(logs.text("stdout")))
    assert sum(each.bytes for each in counters.values()) == sum(len(logs.text(log)) for log in LOGS)


def test_files_and_folder_are_ours_alone(tmp_path):
    (tmp_path / "logs").mkdir(mode=0o700)
    (tmp_path / "logs/stderr.log").touch(mode=0o644)
    for folder in (tmp_path / "logs", tmp_path / "new"):
        with book(folder):
            pass
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
            f"{log}.log": 0o600 for log in LOGS
        }


def test_lines_of_several_workers_are_never_mixed(logs):
    code = """
import os, sys
data = b"".join(b"%s %d %s\\n" % (sys.argv[1].encode(), n, b"x" * (n % 300)) for n in range(2000))
for start in range(0, len(data), 97):
    os.write(1, data[start:start + 97])
"""
    captures = [logs.sink.capture(number) for number in range(3)]
    children = [
        subprocess.Popen([sys.executable, "-c", code, name], stdout=each.fds["stdout"])
        for name, each in zip("abc", captures, strict=True)
    ]
    for capture, child in zip(captures, children, strict=True):
        capture.close_child_ends()
        assert child.wait() == 0
        assert drained(capture)
    logs.close()
    lines = logs.text("stdout").decode().splitlines()
    for name in "abc":
        expected = [f"{name} {number} {'x' * (number % 300)}" for number in range(2000)]
        assert [line for line in lines if line.startswith(name)] == expected
    assert len(lines) == 6000


def test_an_unfinished_line_stays_as_it_is_but_nobody_continues_it(logs):
    logs.say(b"killed in the mid")
    logs.say(b"next\n", b"last")
    logs.close()
    assert logs.text("stdout") == b"killed in the mid\nnext\nlast"


def test_a_silent_unfinished_line_is_shown_soon(logs, monkeypatch):
    monkeypatch.setattr(reader, "SILENCE", 0.01)
    capture = logs.sink.capture(1)
    os.write(capture.fds["stdout"], b"downloading ")
    until(lambda: logs.text("stdout") == b"downloading ")
    os.write(capture.fds["stdout"], b"done\n")
    capture.close_child_ends()
    assert drained(capture)
    logs.close()
    assert logs.text("stdout") == b"downloading done\n"


def test_an_endless_line_is_passed_on_in_parts(logs):
    data = b"".join(b"%07d," % number for number in range(200_000))
    code = "import sys; sys.stdout.write(''.join('%07d,' % number for number in range(200_000)))"
    logs.run(code)
    logs.close()
    assert logs.text("stdout") == data


def test_what_is_in_a_pipe_is_kept_even_while_somebody_holds_its_other_end(logs):
    capture = logs.sink.capture(1)
    grandchild = os.dup(capture.fds["stdout"])
    os.write(grandchild, b"all of it\n" * 60_000)
    capture.close_child_ends()
    assert not drained(capture, 0.01)
    capture.close()
    assert drained(capture)
    with pytest.raises(BrokenPipeError):
        os.write(grandchild, b"too late\n")
    os.close(grandchild)
    logs.close()
    assert logs.text("stdout") == b"all of it\n" * 60_000


def test_closing_the_sink_writes_what_is_still_in_the_pipes(logs):
    captures = [logs.sink.capture(1) for _ in range(3)]
    for capture in captures:
        os.write(capture.fds["stdout"], b"still here\n" * 5000)
        os.write(capture.fds["stderr"], b"unfinished")
    logs.close()
    assert logs.text("stdout") == b"still here\n" * 15_000
    assert logs.text("stderr") == b"unfinished\nunfinished\nunfinished"
    for capture in captures:
        capture.close()


def test_a_sink_that_never_started_closes(tmp_path):
    Book(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_hidden_however_it_arrives(logs, monkeypatch):
    monkeypatch.setattr(reader, "SILENCE", 0.01)
    logs.sink.hide([KEY])
    capture = logs.sink.capture(1)
    os.write(capture.fds["stdout"], b"whole " + KEY + b"\nhalf " + KEY[:9])
    until(lambda: logs.text("stdout") == b"whole ***\nhalf ")
    monkeypatch.setattr(reader, "SILENCE", 60.0)
    os.write(capture.fds["stdout"], KEY[9:] + b" rest\nno end " + KEY[:-1])
    capture.close_child_ends()
    assert drained(capture)
    logs.sink.write("supervisor", b'{"key": "' + KEY + b'"}\n')
    logs.close()
    assert logs.text("stdout") == b"whole ***\nhalf *** rest\nno end ***"
    assert logs.text("supervisor") == b'{"key": "***"}\n'
    assert capture.tail() == ("whole ***", "half ", "*** rest", "no end ***")


@pytest.mark.parametrize("name", [b"user", b"user1", b"user12"])
def test_credentials_in_base64_are_hidden_also_where_a_chunk_ends_in_them(logs, monkeypatch, name):
    monkeypatch.setattr(reader, "SILENCE", 0.01)
    logs.sink.hide([KEY])
    written = base64.b64encode(name + b":" + KEY)
    capture = logs.sink.capture("worker")
    os.write(capture.fds["stdout"], b"Authorization: Basic " + written[:16])
    until(lambda: logs.text("stdout").startswith(b"Authorization: Basic "))
    monkeypatch.setattr(reader, "SILENCE", 60.0)
    os.write(capture.fds["stdout"], written[16:] + b"\n")
    capture.close_child_ends()
    assert drained(capture)
    logs.close()
    before, hidden, after = logs.text("stdout").partition(b"***")
    assert (hidden, len(after) <= 4) == (b"***", True)
    assert KEY[:4] not in base64.b64decode(before.removeprefix(b"Authorization: Basic ") + b"==")


def test_secrets_in_a_flood_and_in_an_endless_line_are_hidden_each_one(logs):
    logs.sink.hide([b"another secret"])
    logs.sink.hide([KEY])
    code = "import sys; print((sys.argv[1] + ' line\\n') * 30_000, (sys.argv[1] + '-') * 30_000, end='')"
    logs.run(code, KEY.decode())
    logs.close()
    assert logs.text("stdout") == b"*** line\n" * 30_000 + b" " + b"***-" * 30_000


def test_the_last_lines_of_all_streams_are_kept_in_order_and_bounded(logs):
    capture = logs.sink.capture(1)
    for number in range(30):
        stream = ("stdout", "stderr", "litellm")[number % 3]
        os.write(capture.fds[stream], b"%s %d %s\n" % (stream.encode(), number, b"x" * 600))
        until(lambda number=number: f" {number} " in "".join(capture.tail()[-1:]))
    capture.close()
    tail = capture.tail()
    assert [line.split()[1] for line in tail] == [str(number) for number in range(10, 30)]
    assert {len(line) for line in tail} == {500}


def test_the_last_lines_of_a_flood_are_its_last_lines(logs):
    capture = logs.run("print('\\n'.join(f'line {number}' for number in range(200_000)))")
    assert capture.tail() == tuple(f"line {number}" for number in range(199_980, 200_000))


def test_the_last_words_of_a_dying_worker_are_there_when_it_is_drained(logs):
    capture = logs.sink.capture(1)
    died = subprocess.run(
        [sys.executable, "-c", "raise SystemExit('no model')"], stderr=capture.fds["stderr"], check=False
    )
    capture.close_child_ends()
    assert drained(capture)
    assert (died.returncode, capture.tail()) == (1, ("no model",))


def test_notes_reach_the_journal_in_the_event_loop(tmp_path):
    (tmp_path / "logs").touch()
    seen = []

    async def main():
        told = anyio.Event()

        def journal(note):
            seen.append((note.event, threading.current_thread()))
            told.set()

        sink = LogSink(tmp_path / "logs", Book(tmp_path).sink._writer._settings, journal)
        sink.start()
        with anyio.fail_after(10):
            await told.wait()
        await anyio.to_thread.run_sync(sink.close)

    anyio.run(main)
    assert seen[0] == ("log.failed", threading.main_thread())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts wake-ups in /proc")
def test_nothing_wakes_up_while_nothing_is_written(logs):
    def wakeups():
        statuses = [Path(f"/proc/self/task/{each.native_id}/status").read_text() for each in threads()]
        return [line for status in statuses for line in status.splitlines() if "ctxt_switches" in line]

    capture = logs.say(b"one line\n")
    until(lambda: logs.text("stdout") == b"one line\n")
    until(lambda: len(threads()) == 3)
    until(lambda: wakeups() == (threading.Event().wait(0.2) or wakeups()))
    capture.close()
