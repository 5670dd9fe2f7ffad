"""What a process uses: on macOS its footprint, which a system library is asked for."""

import os
import sys

import psutil
import pytest

from ccproxy_supervisor.edge import usage


class Library:
    """libSystem, as <sys/resource.h> describes what it writes."""

    def __init__(self, footprint, status=0):
        self._footprint, self._status = footprint, status

    def proc_pid_rusage(self, pid, flavor, buffer):
        assert (pid.value, flavor.value) == (os.getpid(), usage.RUSAGE_INFO_V0)
        before, after = (
            range(7),
            range(8, 10),
        )  # user and system time, wake-ups (2), page-ins, wired, resident; start, exit
        counters = [*before, self._footprint, *after]
        said = bytes(range(16)) + b"".join(each.to_bytes(8, sys.byteorder) for each in counters)
        assert len(said) == usage.V0_BYTES
        buffer._obj[: len(said)] = said
        return self._status


def test_the_footprint_is_where_the_header_has_it():
    assert usage.phys_footprint(os.getpid(), Library(123 << 20)) == 123 << 20
    assert usage.phys_footprint(os.getpid(), Library(123 << 20, status=-1)) is None


def test_memory_is_the_footprint_on_macos_and_resident_elsewhere(monkeypatch):
    stats = psutil.Process()
    assert usage.memory(stats) == pytest.approx(stats.memory_info().rss, rel=0.2)

    monkeypatch.setattr(usage.sys, "platform", "darwin")
    monkeypatch.setattr(usage.ctypes, "CDLL", lambda _: Library(5 << 30))
    assert usage.memory(stats) == 5 << 30
    monkeypatch.setattr(usage.ctypes, "CDLL", lambda _: object())  # a system that has no such call
    assert 1 << 20 < usage.memory(stats) < 5 << 30
