"""A log sink in a folder of its own, and ways to read what it wrote."""

import gzip
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import anyio

from ccproxy_supervisor.core.rotation import parse
from ccproxy_supervisor.core.settings import LogSettings
from ccproxy_supervisor.edge.logs import LogSink


class Book:
    """What the tests touch: the *sink*, its *folder*, and its *notes* as they come."""

    def __init__(self, folder, clock=time.time, **settings):
        self.folder, self.notes = folder, queue.Queue()
        self.sink = LogSink(folder, LogSettings(**settings), self.notes.put, clock)

    def note(self):
        """The next note; the test fails when none comes."""
        return self.notes.get(timeout=10)

    def close(self):
        """Close, and return the notes nobody asked for."""
        self.sink.close()
        return list(self.notes.queue)

    def text(self, log):
        path = self.folder / f"{log}.log"
        return path.read_bytes() if path.exists() else b""

    def rotated(self, log):
        """The rotated files of *log*, oldest first."""
        names = [
            (found.stamp, found.number, name)
            for name in os.listdir(self.folder)
            if (found := parse(name)) and found.log == log
        ]
        return [name for *_, name in sorted(names)]

    def everything(self, log):
        """All that was ever written to *log*, rotated or not."""
        parts = [(self.folder / name).read_bytes() for name in self.rotated(log)]
        return b"".join(gzip.decompress(part) if part[:2] == b"\x1f\x8b" else part for part in parts) + self.text(log)

    def run(self, code, *arguments, stream="stdout"):
        """Run Python *code* as a worker whose output goes to *stream*; returns its capture once all is read."""
        capture = self.sink.capture(1)
        subprocess.run([sys.executable, "-c", code, *arguments], stdout=capture.fds[stream], check=True)
        capture.close_child_ends()
        assert drained(capture)
        return capture

    def say(self, *parts, stream="stdout"):
        """A worker that writes *parts*, one write each, and ends."""
        capture = self.sink.capture(1)
        for part in parts:
            os.write(capture.fds[stream], part)
        capture.close_child_ends()
        assert drained(capture)
        return capture


@contextmanager
def book(folder, clock=time.time, **settings):
    """A started sink, closed at the end."""
    it = Book(folder, clock, **settings)
    it.sink.start()
    try:
        yield it
    finally:
        it.sink.close()


def drained(capture, timeout=10):
    return anyio.run(capture.drained, timeout)


def threads():
    """The threads of all sinks: of a closed one the packer may still be busy."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("log-")]


def until(condition):
    """Wait for *condition*, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)
