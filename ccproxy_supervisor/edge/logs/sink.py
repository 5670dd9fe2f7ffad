"""The door to the logs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ccproxy_supervisor.core.model import LOGS, Journal, Note
from ccproxy_supervisor.core.secrets import Secrets
from ccproxy_supervisor.core.settings import LogSettings
from ccproxy_supervisor.edge.logs.backlog import Backlog, Piece
from ccproxy_supervisor.edge.logs.capture import Capture
from ccproxy_supervisor.edge.logs.ledger import Ledger
from ccproxy_supervisor.edge.logs.reader import Reader
from ccproxy_supervisor.edge.logs.tally import LogCounters, Tally
from ccproxy_supervisor.edge.logs.writer import Writer
from ccproxy_supervisor.launcher.spool import STREAMS, Lane, Spool


class LogSink:
    """Nothing here waits for a disk except `close`. *spools*, a folder, keeps what is read of the workers until it is written."""

    def __init__(
        self, directory: Path, settings: LogSettings, journal: Journal, clock: Callable[[], float] = time.time,
        spools: Path | None = None,
    ) -> None:  # fmt: skip
        self._directory, self._journal, self._spools = directory, journal, spools
        self._loop: asyncio.AbstractEventLoop | None = None
        self._secrets = Secrets()
        self._tally, self._backlog = Tally(self._tell), Backlog()
        self._reader = Reader(self._backlog, self._tally, lambda: self._secrets)
        self._writer = Writer(directory, settings, self._backlog, self._tally, clock, self._settle())

    def start(self) -> None:
        """Begin; notes go to the journal in the running event loop, or where there is none in the thread they are of."""
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._writer.start()
        self._reader.start()

    def close(self, timeout: float = 5.0) -> None:
        """Write what the pipes and the backlog still hold, for at most *timeout* seconds; for a thread of its own."""
        self._reader.stop()
        self._close(timeout)

    def leave(self, timeout: float = 5.0) -> None:
        """Write what the backlog holds, and let the next supervisor go on with the pipes."""
        self._reader.leave()
        self._close(timeout)

    def _close(self, timeout: float) -> None:
        if self._reader.is_alive():
            self._reader.join(timeout / 2)
        self._backlog.close()
        if self._writer.is_alive():
            self._writer.join(timeout / 2)

    def spool(self, number: int) -> Path | None:
        """Where what is read of worker *number* is kept."""
        return self._spools and self._spools / f"w{number}.spool"

    def capture(self, number: int | None = None) -> Capture:
        """Pipes for the output of worker *number*, or of somebody who ends with us."""
        return self._reader.capture(None if number is None else self._claimed(number, new=True))

    def adopt_capture(self, number: int, ours: Mapping[str, int]) -> Capture:
        """Go on with the pipes of worker *number* that an earlier supervisor read. Waits until nobody else does."""
        return self._reader.capture(self._claimed(number, new=False) or self._claimed(number, new=True), ours)

    def collect(self, living: Collection[int]) -> None:
        """Write what is kept of workers that are not among the *living*."""
        for path in self._spools.glob("w*.spool") if self._spools else ():
            number = path.stem[1:]
            if number.isdecimal() and int(number) not in living:
                spool = self._open(int(number), new=False)
                if spool and spool.claim(wait=False):
                    self._reader.collect(spool)
                elif spool:
                    spool.close()

    def _claimed(self, number: int, *, new: bool) -> Spool | None:
        if spool := self._open(number, new=new):
            spool.claim(wait=True)
        return spool

    def _open(self, number: int, *, new: bool) -> Spool | None:
        """Without one, for the disk is full, what a killed supervisor has not written is lost."""
        path = self.spool(number)
        with suppress(OSError):
            return Spool(str(path), number, new=new) if path else None
        return None

    def _settle(self) -> Ledger | None:
        """Bring the logs and what is kept of the workers into agreement."""
        if self._spools is None:
            return None
        with suppress(OSError):
            ledger = Ledger(self._spools / "logs.ledger")
            ledger.settle(self._directory, self._lane)
            return ledger
        return None

    def _lane(self, key: int) -> Lane | None:
        spool = self._open(key // len(STREAMS), new=False)
        return spool.lanes[STREAMS[key % len(STREAMS)]] if spool else None

    def write(self, log: str, data: bytes) -> None:
        """Append whole lines to *log*; never waits."""
        assert log in LOGS
        data = self.mask(data if data.endswith(b"\n") else data + b"\n")
        if not self._backlog.put(Piece(log, data, 0, len(data))):
            self._tally.count(log, dropped=len(data))

    def hide(self, secrets: Iterable[bytes]) -> None:
        """Show `***` for *secrets* from now on, besides those already hidden: an old worker may still say them."""
        self._secrets = self._secrets.plus(secrets)

    def mask(self, data: bytes) -> bytes:
        """Hide in *data* what no log may show, for others that show it."""
        return self._secrets.mask(data)

    def rotate(self) -> None:
        """Begin new files now; a file that somebody moved is only opened again."""
        self._writer.rotate()

    def adopt(self, settings: LogSettings, directory: Path | None = None) -> None:
        """Go on with other *settings*, and in another *directory* if one is given."""
        self._directory = directory or self._directory
        self._writer.adopt(self._directory, settings)

    def restore(self) -> bool:
        """Open anew what somebody removed; returns whether anything was. Raises OSError when there can be no folder."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if all((self._directory / f"{log}.log").exists() for log in LOGS):
            return False
        self._writer.reopen()
        return True

    def counters(self) -> dict[str, LogCounters]:
        return self._tally.counters()

    def _tell(self, note: Note) -> None:
        if self._loop is None:
            self._journal(note)
        else:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._journal, note)
