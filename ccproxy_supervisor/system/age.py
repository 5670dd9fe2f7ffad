"""How long a process has been running."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil


def age(pid: int) -> float:
    """Seconds since the process was started, to a hundredth. psutil adds a time of boot that Linux tells in whole seconds, and
    is up to one wrong. Raises psutil.Error and OSError."""
    if sys.platform != "linux":
        return max(0.0, time.time() - psutil.Process(pid).create_time())
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # proc(5): field 22, the name has spaces
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
