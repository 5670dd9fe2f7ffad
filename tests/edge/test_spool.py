"""What was read and is in no log yet: nothing of it depends on the life of its reader."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ccproxy_supervisor.core.settings import LogSettings
from ccproxy_supervisor.edge.logs import LogSink, backlog
from ccproxy_supervisor.edge.logs.logfile import LogFile
from ccproxy_supervisor.launcher import spool
from ccproxy_supervisor.launcher.spool import HEAD, MARK, ROOM, SPARING, Full, Lane, Spool


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "w1.spool")


@pytest.fixture
def pipe():
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


def lane(path, *, new=False, stream="stdout"):
    it = Spool(path, new=new)
    assert it.claim(wait=False)
    return it, it.lanes[stream]


def test_what_was_read_is_there_for_the_next_reader(path, pipe):
    first, mine = lane(path, new=True)
    os.write(pipe[1], b"one\ntwo\n")
    assert mine.read(pipe[0]) == 8
    memory, start, end = mine.place(4)
    assert memory[start:end] == b"two\n"
    mine.done(4)
    first.close()

    _, theirs = lane(path)
    assert (theirs.held(), theirs.written, theirs.end) == (b"two\n", 4, 8)
    assert oct(os.stat(path).st_mode)[-3:] == "600"


def test_what_goes_over_the_end_of_the_ring_is_in_no_one_place(path, pipe):
    _, mine = lane(path, new=True)
    os.write(pipe[1], b"x")
    mine.read(pipe[0])
    while mine.end < ROOM:  # one byte is always held, so that the ring is not begun anew
        os.write(pipe[1], b"y" * min(50_000, ROOM - mine.end))
        mine.read(pipe[0])
        mine.done(mine.end - 1)
    os.write(pipe[1], b"z")
    mine.read(pipe[0])

    assert mine.place(2) is None
    memory, start, end = mine.place(1)
    assert memory[start:end] == b"z"
    assert mine.held() == b"yz"


def test_a_pipe_that_is_empty_or_at_its_end_is_told_apart(path, pipe):
    _, mine = lane(path, new=True)
    with pytest.raises(BlockingIOError):
        mine.read(pipe[0])
    reading, writing = os.pipe()
    os.close(writing)
    assert mine.read(reading) == 0
    os.close(reading)
    assert mine.held() == b""


def test_a_ring_goes_round_and_is_begun_anew_when_it_is_empty(path, pipe):
    _, mine = lane(path, new=True)
    said = b""
    for number in range(3 * ROOM // 50_000):
        os.write(pipe[1], part := bytes([number]) * 50_000)
        said += part
        while len(mine.held()) < 50_000:
            mine.read(pipe[0])
        assert mine.held() == part
        mine.done(mine.end)
    assert mine.end > ROOM
    os.write(pipe[1], b"x")
    mine.read(pipe[0])
    assert (mine.end - 1) % ROOM <= SPARING


def test_what_goes_round_is_put_together(path, pipe):
    _, mine = lane(path, new=True)
    said = []
    while mine.end < ROOM - 60_000:
        os.write(pipe[1], bytes(60_000))
        mine.read(pipe[0])
    mine.done(mine.end - 10)
    for letter in b"abcd":
        os.write(pipe[1], bytes([letter]) * 20_000)
        said.append(bytes([letter]) * 20_000)
        while True:
            try:
                mine.read(pipe[0])
            except BlockingIOError:
                break
    assert mine.held() == bytes(10) + b"".join(said)


def test_a_full_ring_takes_nothing_and_counts_what_is_dropped(path, pipe):
    _, mine = lane(path, new=True)
    while mine.end < ROOM:
        os.write(pipe[1], b"x" * 60_000)
        mine.read(pipe[0])
    with pytest.raises(Full):
        mine.read(pipe[0])
    left = 0
    while True:
        try:
            left += mine.drop(pipe[0])
        except BlockingIOError:
            break
    assert (len(mine.held()), mine.dropped) == (ROOM, left)
    mine.forget_dropped()
    assert mine.dropped == 0


class Words(list):
    """Those of a lane, up to the moment at which its reader is killed: what it would have stored after that is not."""

    def __init__(self, words):
        super().__init__(words)
        self.words = words

    def __setitem__(self, number, value):
        if value:
            self.words[number] = value

    def release(self):
        self.words.release()


@pytest.mark.parametrize("done", [False, True])
def test_a_read_that_was_announced_counts_if_it_was_done(path, pipe, done, monkeypatch):
    first, mine = lane(path, new=True)
    os.write(pipe[1], b"0123456789")

    def killed(fd, places):
        if done:
            real(fd, places)
        raise KeyboardInterrupt

    real = os.readv
    monkeypatch.setattr(spool.os, "readv", killed)
    monkeypatch.setattr(mine, "_words", Words(mine._words))
    with pytest.raises(KeyboardInterrupt):
        mine.read(pipe[0])
    monkeypatch.undo()
    first.close()

    _, theirs = lane(path)
    assert theirs.held() == (b"0123456789" if done else b"")
    if not done:
        assert theirs.read(pipe[0]) == 10
    assert theirs.held() == b"0123456789"


def test_one_reader_at_a_time(path):
    first, _ = lane(path, new=True)
    second = Spool(path)
    assert not second.claim(wait=False)
    first.release()
    assert second.claim(wait=False)


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * (HEAD + 3 * ROOM)])
def test_a_file_that_is_none_of_ours_is_refused(path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(OSError):
        Spool(path)


def test_positions_that_make_no_sense_hold_nothing(path):
    _, mine = lane(path, new=True)
    mine._words[0] = 5 * ROOM
    mine.recover()
    assert (mine.held(), mine.written) == (b"", 0)


TALK = """
import os, sys
sys.path.insert(0, sys.argv[3])
from ccproxy_supervisor.launcher.spool import Spool
it = Spool(sys.argv[1]); it.claim(wait=True)
fd, lane = int(sys.argv[2]), it.lanes["stdout"]
os.set_blocking(fd, True)
while lane.read(fd):
    pass
"""


def test_readers_that_are_killed_at_any_moment_lose_nothing_and_repeat_nothing(path, pipe):
    """The true kill: forty readers, each while it reads, and the bytes are counted."""
    Spool(path, new=True).close()
    root = str(spool.__file__).rpartition("/ccproxy_supervisor/")[0]
    heard, said = b"", 0
    for _ in range(40):
        reader = subprocess.Popen([sys.executable, "-c", TALK, path, str(pipe[0]), root], pass_fds=[pipe[0]])
        until = time.monotonic() + 0.15
        while time.monotonic() < until:
            os.write(pipe[1], b"%07d\n" % said)
            said += 1
        reader.send_signal(signal.SIGKILL)
        reader.wait()
        it, mine = lane(path)
        heard += mine.held()
        mine.done(mine.end)
        it.close()
    os.set_blocking(pipe[0], False)
    heard += os.read(pipe[0], 1 << 20) if said * 8 > len(heard) else b""
    assert heard == b"".join(b"%07d\n" % number for number in range(said))
    assert MARK not in heard


@pytest.mark.parametrize("slow", [0.0, 0.05])
def test_a_flood_is_whole_and_in_order_though_the_ring_is_full(tmp_path, monkeypatch, slow):
    """What the disk has not taken yet stays in the ring; what comes meanwhile goes past it."""
    passed, append = [], LogFile.append
    read = Lane.read

    def slowly(self, *words):
        time.sleep(slow)
        append(self, *words)

    def counted(self, fd):
        try:
            return read(self, fd)
        except Full:
            passed.append(1)
            raise

    monkeypatch.setattr(LogFile, "append", slowly)
    monkeypatch.setattr(Lane, "read", counted)
    monkeypatch.setattr(backlog, "SHALLOW", backlog.LIMIT)
    lines = b"".join(b"%07d %s\n" % (number, b"x" * (number * 7919 % 300)) for number in range(60_000))
    (tmp_path / "run").mkdir()
    logs = LogSink(tmp_path, LogSettings(rotate="never"), print, spools=tmp_path / "run")
    logs.start()
    capture = logs.capture(1)
    with open(os.dup(capture.fds["stdout"]), "wb", buffering=0) as child:
        capture.close_child_ends()
        child.writelines(lines[start : start + 65_537] for start in range(0, len(lines), 65_537))
    assert capture._all_ended.wait(60)
    logs.close(60)

    assert (tmp_path / "stdout.log").read_bytes() == lines
    assert capture.tail()[-1] == lines.splitlines()[-1].decode()
    assert passed or not slow
    assert os.listdir(tmp_path / "run") == ["logs.ledger"]
