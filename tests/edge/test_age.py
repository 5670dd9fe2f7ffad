"""How long a process has been running, held against a clock that began before and after it."""

import os
import subprocess
import sys
import time

from ccproxy_supervisor.system.age import age

TICK = 2 / os.sysconf("SC_CLK_TCK")


def test_a_process_is_as_old_as_it_is():
    for _ in range(3):
        before = time.monotonic()
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            after = time.monotonic()
            least = time.monotonic() - after
            seen = age(process.pid)
            most = time.monotonic() - before
            process.communicate()
        assert least - TICK <= seen <= most + TICK
