"""A command on a terminal of its own."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time


class Terminal:
    """*said* is everything that *command* has written."""

    def __init__(self, command, columns=120, rows=40, **env):
        self.said = ""
        self._ours, theirs = pty.openpty()
        self.resize(columns, rows)
        names = {"TERM": "xterm-256color", "TZ": "UTC"}
        clean = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
        }
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=clean | names | env,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads; ignored in the background
        )  # fmt: skip
        os.close(theirs)

    def resize(self, columns, rows):
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text):
        """Read on until *text* has been written; return what was written up to then."""
        deadline = time.monotonic() + 20
        while text not in self.said:
            assert select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))[0], (
                f"no {text!r}:\n{self.said}"
            )
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the end, on Linux
                data = b""
            assert data, f"ended without {text!r}:\n{self.said}"
            self.said += data.decode(errors="replace")
        before, _, self.said = self.said.partition(text)
        return before + text

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)

    def end(self):
        """Read to the end; return the exit code and what was left to read."""
        deadline = time.monotonic() + 60
        while True:
            ready = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"it does not end:\n{self.said}"
            try:
                data = os.read(self._ours, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.said += data.decode(errors="replace")
        return self._process.wait(20), self.said

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        os.close(self._ours)


def bare(text):
    """Without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
