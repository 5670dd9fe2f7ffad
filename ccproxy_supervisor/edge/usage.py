"""What a process uses, measured as its own system judges it."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Protocol

import psutil

from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.model import Child, Usage

RUSAGE_INFO_V0 = 0
V0_BYTES = 96  # struct rusage_info_v0 of <sys/resource.h>: a uuid of 16 bytes, then ten counters of 8
FOOTPRINT = 16 + 7 * 8  # where ri_phys_footprint is in it


class SystemLibrary(Protocol):
    """The part of macOS's libSystem that this needs."""

    proc_pid_rusage: Any


def usage(child: Child) -> Usage | None:
    """What a worker uses now; None once it cannot be asked."""
    stats = getattr(child, "stats", None)
    if not isinstance(stats, psutil.Process):
        return None
    return known(lambda: _usage(stats), None)


def _usage(stats: psutil.Process) -> Usage:
    with stats.oneshot():
        cpu = stats.cpu_times()
        return Usage(memory(stats), cpu.user + cpu.system, stats.num_fds(), stats.num_threads())


def memory(stats: psutil.Process) -> int:
    """Bytes of a process: on macOS its footprint, elsewhere its resident memory.

    macOS compresses what is not used for a while: it leaves the resident memory then and is still this process's, so that
    a leak would never reach a limit by `rss`. The footprint is what Activity Monitor shows and the system kills by.
    """
    footprint = known(lambda: phys_footprint(stats.pid, ctypes.CDLL(None)), None) if sys.platform == "darwin" else None
    return footprint or int(stats.memory_info().rss)


def phys_footprint(pid: int, library: SystemLibrary) -> int | None:
    """Ask macOS for the footprint of a process of ours; None when it does not say."""
    buffer = (ctypes.c_char * 512)()  # more than the structure of any version
    if library.proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(RUSAGE_INFO_V0), ctypes.byref(buffer)):
        return None
    return int.from_bytes(buffer.raw[FOOTPRINT : FOOTPRINT + 8], sys.byteorder) or None
