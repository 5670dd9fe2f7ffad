"""Compresses rotated files in a thread of its own that mostly rests."""

from __future__ import annotations

import os
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path

from ccproxy_supervisor.core.model import LOGS
from ccproxy_supervisor.core.rotation import PARTIAL, leftovers, uncompressed
from ccproxy_supervisor.edge.logs.tally import Tally

CHUNK = 256 << 10
CALM = 3.0  # seconds without a rotation …
LATEST = 30.0  # … are waited for no longer than this
# Not a lower priority: a thread that waits for its turn while it holds the interpreter lock stops the whole daemon.
REST = 3  # times as long as each chunk took
LEVEL = 4  # half the time of the usual 6 for a twentieth more bytes
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Packer(threading.Thread):
    """Whatever lies uncompressed in the folder is compressed, so a crash or a full disk only puts it off."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(name="log-packer", daemon=True)
        self._tally = tally
        self._order, self._stopped = threading.Event(), False
        self._folder: Path | None = None

    def pack(self, folder: Path) -> None:
        """Compress what lies uncompressed in *folder*; soon, and after what is being compressed now."""
        self._folder = folder
        self._order.set()

    def stop(self, timeout: float) -> None:
        """Leave the rest for the next start."""
        self._stopped = True
        self._order.set()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        while self._order.wait():
            self._await_calm()
            if self._stopped:
                return
            if self._folder is not None:
                try:
                    self._pack_all(self._folder)
                except Exception as error:  # the next order finds what is left
                    self._tally.stumbled(self.name, error)

    def _await_calm(self) -> None:
        """While one file after the other is rotated, compressing would slow that down, and the oldest will go anyway."""
        latest = time.monotonic() + LATEST
        self._order.clear()
        while not self._stopped and time.monotonic() < latest and self._order.wait(CALM):
            self._order.clear()

    def _pack_all(self, folder: Path) -> None:
        names: list[str] = []
        with suppress(OSError):  # the writer tells what is wrong with the folder
            names = uncompressed(os.listdir(folder))
        well = set(LOGS)
        for name in names:
            try:
                self._pack(folder / name)
            except OSError as error:
                log = name.partition(".")[0]
                self._tally.failed("compress", log, error)
                well.discard(log)
        self._tally.resumed("compress", *well)

    def _pack(self, path: Path) -> None:
        target = path.with_name(path.name + ".gz")
        partial = target.with_name(target.name + PARTIAL)
        partial.unlink(missing_ok=True)
        try:
            self._squeeze(path, partial)
            if path.exists() and not self._stopped:  # it may have been the oldest, and had to go meanwhile
                os.rename(partial, target)
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            if path.exists():
                raise
        finally:
            partial.unlink(missing_ok=True)

    def _squeeze(self, path: Path, partial: Path) -> None:
        with open(os.open(path, _READ), "rb") as source, open(os.open(partial, _CREATE, 0o600), "wb") as sink:
            squeeze = zlib.compressobj(LEVEL, wbits=31)
            while data := source.read(CHUNK):
                if self._stopped:
                    return
                began = time.monotonic()
                sink.write(squeeze.compress(data))
                time.sleep(REST * (time.monotonic() - began))
            sink.write(squeeze.flush())
            sink.flush()
            times = os.fstat(source.fileno())
            os.utime(sink.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))
            os.fsync(sink.fileno())


def tidy(folder: Path) -> None:
    """Remove what a crash left behind."""
    for name in leftovers(os.listdir(folder)):
        (folder / name).unlink(missing_ok=True)
