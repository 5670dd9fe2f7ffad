"""How much there is to use up: the disk that is left, and the memory a worker may take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ccproxy_supervisor.core.exposition import Family, Gauge


class Capacity:
    """A collector; both callables are asked at every scrape, so that a reload needs no word to it."""

    def __init__(self, logs: Callable[[], Path], memory: Callable[[], int | None]) -> None:
        self._logs, self._memory = logs, memory

    def collect(self) -> Iterator[Family]:
        """Answer the registry; what is not known or not limited has no sample."""
        free = Gauge("ccproxy_disk_free_bytes", "Bytes left where the logs are.", ("path",))
        with suppress(OSError):
            disk = os.statvfs(self._logs())
            free.add_metric(["logs"], disk.f_bavail * disk.f_frsize)
        yield free
        limit = Gauge("ccproxy_worker_memory_limit_bytes", "Resident memory at which a worker is replaced.")
        if (most := self._memory()) is not None:
            limit.add_metric([], most)
        yield limit
