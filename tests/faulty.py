"""The supervisor's program with faults in it: `python faulty.py HOME [--hasten] run …`.

Whenever the file `arm` of HOME names another fault, each of `TARGETS` raises it at its next two calls; `hits` tells which have.
"""

import contextlib
import errno
import functools
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path

#: By module, what raises.
BROKEN = {
    "persistence": ["Persistence.__call__", "Persistence._saved"],
    "overview": ["Overview.__call__", "Overview.document", "Samples.take"],
    "orders": ["Orders.reload"],
    "health_feed": ["HealthFeed.__call__"],
    "edge.admin": ["host_allowed"],
    "edge.births": ["Births.forget", "Births.keep"],
    "edge.embedded.doors": ["UnixDoor.there", "UnixDoor.open"],
    "edge.fetch": ["_exchange"],
    "edge.gauges": ["Gauges.collect", "ProcessGauges._look"],
    "edge.home.reading": ["read_plan"],
    "edge.incidents": ["Incidents.__call__", "write", "Incidents.restore"],
    "edge.journal": ["Writer.__call__"],
    "edge.restorer": ["restore_folder"],
    "edge.logs.capture": ["Capture.drained"],
    "edge.logs.packer": ["Packer._pack_all"],
    "edge.logs.reader": ["Reader._read", "Reader._give", "Reader._admit", "Reader._dismiss"],
    "edge.logs.sink": ["LogSink.adopt"],
    "edge.logs.writer": ["Writer._write", "Writer._follow_calendar", "Writer._follow_order", "Writer._prune"],
    "edge.metrics": ["Metrics.__call__", "Metrics.observe_lag"],
    "edge.models": ["ModelWatch._rounds"],
    "edge.ollama": ["OllamaWatch._look"],
    "edge.ownership": ["Ownership.restore"],
    "edge.preload": ["Preloader._ask", "Preloader._hear", "Preloader.ping", "Preloaders._open", "Preloaders._reap"],
    "edge.process": ["OsChild.visit"],
    "edge.capacity": ["Capacity.collect"],
    "edge.state": ["StateFile._put", "StateFile.restore"],
    "edge.upgrades": ["Upgrades.document"],
    "edge.wake": ["Wake.observe"],
    "edge.watchdog": ["Watchdog.beat", "Watchdog.restore"],
}
TARGETS = [f"{module}:{path}" for module, paths in BROKEN.items() for path in paths]
FAULTS = {
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "EROFS": lambda: OSError(errno.EROFS, os.strerror(errno.EROFS)),
    "EACCES": lambda: OSError(errno.EACCES, os.strerror(errno.EACCES)),
    "EMFILE": lambda: OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    "thread": lambda: RuntimeError("can't start new thread"),
    "system": lambda: SystemError("<built-in function proc_cmdline> returned a result with an exception set"),
    "value": lambda: ValueError("out of range"),
    "memory": MemoryError,
}
TIMES = 2
armed, hits = "", {}


def found(target):
    """Where the target is, what it is called there, and what it is."""
    module, _, path = target.partition(":")
    owner = importlib.import_module(f"ccproxy_supervisor.{module}")
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name, getattr(owner, name)


def break_into(target):
    owner, name, whole = found(target)

    @functools.wraps(whole)
    def broken(*args, **more):
        if armed and hits.get(target, 0) < TIMES:
            hits[target] = hits.get(target, 0) + 1
            made = FAULTS[armed]()
            raise made
        return whole(*args, **more)

    setattr(owner, name, broken)


def follow(home):
    global armed
    said = ""
    while True:
        time.sleep(0.02)
        with contextlib.suppress(OSError):  # the disk may be full for a while
            order = (home / "arm").read_text() if (home / "arm").exists() else ""
            if order != armed:
                hits.clear()
                armed = order
            if said != (now := json.dumps({"armed": armed, "hits": hits})):
                draft = home / ".hits"
                draft.write_text(now)
                draft.rename(home / "hits")
                said = now


def hasten():
    """What is waited for is not what is tested."""
    for module, values in {
        "lasting": {"FIRST": 0.01, "LONGEST": 0.05},
        "edge.watchdog": {"TICK": 0.1},
        "edge.restorer": {"EVERY": 0.1},
        "edge.embedded.serve": {"LOOK": 0.1},
        "edge.logs.packer": {"CALM": 0.05},
        "edge.models": {"SOON": 0.1},
        "edge.preload": {"PROBE": 0.2, "PATIENCE": 2.0},
    }.items():
        for name, value in values.items():
            found(f"{module}:{name}")  # else it would be made
            setattr(importlib.import_module(f"ccproxy_supervisor.{module}"), name, value)


if __name__ == "__main__":
    home = Path(sys.argv.pop(1))
    for each in TARGETS:
        break_into(each)
    if sys.argv[1] == "--hasten":
        hasten()
        del sys.argv[1]
    threading.Thread(target=follow, args=(home,), daemon=True).start()
    from ccproxy_supervisor.cli import main

    main()
