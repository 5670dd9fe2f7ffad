"""Writes to the disk: one thread, asleep while there is nothing to write and no boundary of the calendar is near."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ccproxy_supervisor.core.model import LOGS
from ccproxy_supervisor.core.rotation import archive_name, disk_use, next_boundary, surplus
from ccproxy_supervisor.core.settings import LogSettings
from ccproxy_supervisor.edge.logs.backlog import Backlog, Piece
from ccproxy_supervisor.edge.logs.ledger import Ledger
from ccproxy_supervisor.edge.logs.logfile import LogFile
from ccproxy_supervisor.edge.logs.packer import Packer, tidy
from ccproxy_supervisor.edge.logs.tally import Tally

RETRY = 1.0  # seconds between two tries to write to a disk that refuses
LONGEST_SLEEP = 300.0  # a sleeping computer does not count these seconds: look at the calendar now and then
SPARING = 64 << 10  # bytes written before looking again at a total that nothing can be done about
CLOCK_STEP = 3600.0  # a clock set back further than this begins the period anew


class Writer(threading.Thread):
    """Only this thread touches the current files; others leave orders and wake it."""

    def __init__(
        self, folder: Path, settings: LogSettings, backlog: Backlog, tally: Tally, clock: Callable[[], float],
        ledger: Ledger | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name="log-writer", daemon=True)
        self._folder, self._settings, self._backlog, self._tally = folder, settings, backlog, tally
        self._clock, self._ledger = clock, ledger
        self._packer = Packer(tally)
        self._files = {log: LogFile(folder, log, ledger) for log in LOGS}
        self._retry = dict.fromkeys(LOGS, 0.0)
        self._boundary = self._seen = 0.0
        self._adopt: tuple[Path, LogSettings] | None = None
        self._rotate_now = False
        self._allowance = 0  # bytes until `max_total` has to be looked at

    def adopt(self, folder: Path, settings: LogSettings) -> None:
        self._adopt = folder, settings
        self._backlog.wake()

    def reopen(self) -> None:
        """Begin files that are gone."""
        self._adopt = self._adopt or (self._folder, self._settings)
        self._backlog.wake()

    def rotate(self) -> None:
        self._rotate_now = True
        self._backlog.wake()

    def run(self) -> None:
        self._carefully(self._packer.start)
        self._carefully(self._begin)
        while (pieces := self._backlog.take(self._until_boundary())) is not None:
            self._carefully(self._follow_settings)
            self._carefully(self._follow_calendar)
            self._carefully(lambda now=pieces: self._write_all(now))  # type: ignore[misc]
            self._carefully(self._follow_order)
        for file in self._files.values():
            file.close()
        self._packer.stop(RETRY)

    def _carefully(self, act: Callable[[], object]) -> None:
        """Whatever becomes of it, this thread goes on: without it nothing is written any more."""
        try:
            act()
        except Exception as error:
            self._tally.stumbled(self.name, error)

    def _begin(self) -> None:
        """Take up what lies in the folder: remnants, files of an earlier period, too many old ones."""
        now = self._clock()
        with suppress(OSError):
            tidy(self._folder)
        for file in self._files.values():
            if (last := file.last_write()) is not None:
                ended = next_boundary(self._settings.rotate, min(last, now))
                self._renew(file, ended if ended <= now else None)
            else:
                self._renew(file, None)
        self._boundary = next_boundary(self._settings.rotate, now)
        self._prune()

    def _until_boundary(self) -> float | None:
        return None if self._boundary == math.inf else min(LONGEST_SLEEP, max(0.0, self._boundary - self._clock()))

    def _follow_calendar(self) -> None:
        now = self._clock()
        if now >= self._boundary:
            for file in self._files.values():
                self._renew(file, self._boundary)
        if now >= self._boundary or now < self._seen - CLOCK_STEP:
            self._boundary = next_boundary(self._settings.rotate, now)
        self._seen = now

    def _follow_settings(self) -> None:
        if self._adopt:
            (folder, self._settings), self._adopt = self._adopt, None
            if folder != self._folder:
                for file in self._files.values():
                    file.close()
                self._folder, self._files = folder, {log: LogFile(folder, log, self._ledger) for log in LOGS}
            self._begin()

    def _follow_order(self) -> None:
        if self._rotate_now:
            self._rotate_now = False
            for file in self._files.values():
                self._renew(file, self._clock())

    def _write_all(self, pieces: list[Piece]) -> None:
        by_log: dict[str, list[Piece]] = {}
        for piece in pieces:
            by_log.setdefault(piece.log, []).append(piece)
        for log, its in by_log.items():
            self._carefully(lambda log=log, its=its: self._write(log, its))  # type: ignore[misc]
        if self._backlog.done(pieces):
            self._tally.resumed("keep up with", *LOGS)

    def _write(self, log: str, pieces: list[Piece]) -> None:
        file = self._files[log]
        before = file.written
        if time.monotonic() >= self._retry[log]:
            try:
                file.ready()
                file.append(pieces, self._settings.max_size, lambda: self._rotate(file, self._clock()))
            except Exception as error:
                self._give_up(file, error)
            else:
                self._tally.resumed("write", log)
        for piece in pieces:  # those that were dropped too
            if piece.lane is not None:
                piece.lane.done(piece.position)
        written = file.written - before
        self._tally.count(log, written=written, dropped=sum(piece.size for piece in pieces) - written)
        self._allowance -= written
        if self._allowance < 0:
            self._prune()

    def _give_up(self, file: LogFile, error: Exception) -> None:
        file.close()
        self._retry[file.log] = time.monotonic() + RETRY
        self._tally.failed("write", file.log, error)

    def _renew(self, file: LogFile, at: float | None) -> None:
        """Open *file* where somebody else moved it; else rotate what it holds, unless *at* is None."""
        try:
            if not file.ready() and file.size and at is not None:
                self._rotate(file, at)
        except OSError as error:
            self._give_up(file, error)

    def _rotate(self, file: LogFile, at: float) -> bool:
        try:
            file.rename(archive_name(file.log, at, os.listdir(self._folder)))
        except OSError as error:
            self._tally.failed("rotate", file.log, error)
            return False
        file.ready()
        self._tally.count(file.log, rotations=1)
        self._tally.resumed("rotate", file.log)
        self._prune()
        return True

    def _prune(self) -> None:
        settings, files = self._settings, _sizes(self._folder)
        for name in surplus(files, settings.keep, settings.max_total, self._clock()):
            log = name.partition(".")[0]
            try:
                (self._folder / name).unlink(missing_ok=True)
            except OSError as error:
                self._tally.failed("prune", log, error)
            else:
                del files[name]
                self._tally.resumed("prune", log)
        self._allowance = max(settings.max_total - disk_use(files), SPARING)
        if settings.compress:
            self._packer.pack(self._folder)


def _sizes(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    with suppress(OSError), os.scandir(folder) as found:  # what is wrong with a folder shows when writing
        for entry in found:
            with suppress(FileNotFoundError):  # compressed just now
                sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    return sizes
