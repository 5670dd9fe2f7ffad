"""The clock: certificates, tokens and the order of log lines hang on it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, ok, skip, warn

BUILT = 1_795_392_000.0  # 2026-11-23: no clock that is earlier can be right
SERVER = "time.apple.com"
MAC_REMEDY = "System Settings > General > Date & Time > Set time and date automatically"


def clock(scene: Scene) -> Iterator[Finding]:
    now = scene.now()
    if now < BUILT:
        yield fail(
            "the clock is years behind", f"it is earlier than this program by {(BUILT - now) / 86400:.0f} d", MAC_REMEDY
        )
    written = [
        path.stat().st_mtime for path in (scene.home.settings_file, scene.home.run / "state.json") if path.exists()
    ]
    ahead = max(written, default=now) - now
    if ahead > 60:
        yield fail("the clock was set back", f"our own files were written {ahead:.0f} s in the future", MAC_REMEDY)
    yield from _against_others(scene)


def _against_others(scene: Scene) -> Iterator[Finding]:
    asked = scene.program("sntp", SERVER)
    if asked is None:
        told = scene.program("timedatectl", "show", "-p", "NTPSynchronized", "--value")
        if told is None or told.status:
            yield skip("the clock against others")
        elif told.out.strip() == "yes":
            yield ok("the clock is synchronised", "timedatectl")
        else:
            yield warn("the clock is not synchronised", "timedatectl", "timedatectl set-ntp true")
        return
    offset = re.search(r"([+-]\d+\.\d+) \+/-", asked.out)
    if offset is None:
        yield skip("the clock against others", f"{SERVER} could not be asked")
    elif abs(float(offset[1])) > 5:
        yield warn("the clock is wrong", f"{offset[1]} s against {SERVER}", MAC_REMEDY)
    else:
        yield ok("the clock is right", f"{offset[1]} s against {SERVER}")
