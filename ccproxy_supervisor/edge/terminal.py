"""Shows lines to a person, who may pause the terminal, or be gone: the daemon waits for neither."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress

ROOM = 1000  # lines; more are dropped
PATIENCE = 1.0  # seconds at the end, for the last lines


class Terminal:
    """Writes to *descriptor* in a thread of its own; without Python's stream, whose lock would be held at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(ROOM)
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._thread.start()

    def show(self, line: bytes) -> None:
        with suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self) -> None:
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(PATIENCE)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            left = line + b"\n"
            with suppress(OSError, MemoryError):  # it is full, or closed
                while left:
                    left = left[os.write(self._descriptor, left) :]
