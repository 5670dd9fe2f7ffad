"""Locks: every package LiteLLM needs, each with its one version and its hashes."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ccproxy_supervisor.deploy.errors import InstallError

_WITH = "# with "


def shipped(version: str) -> str | None:
    """The lock of *version* that the package carries, good for every platform and Python it supports."""
    lock = files("ccproxy_supervisor") / f"data/litellm/{version}.lock"
    return lock.read_text() if lock.is_file() else None


def from_report(report: dict[str, Any]) -> str:
    """Write down what pip resolved (`--report`), good for this platform and Python only. Raises `InstallError`."""
    lines = [f"# for {_here()}"]
    for item in report["install"]:
        sha256 = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        pin = f"{canonicalize_name(item['metadata']['name'])}=={item['metadata']['version']}"
        if not sha256:
            raise InstallError(f"cannot lock {pin}: the package index names no sha256 of it; nothing was downloaded")
        lines.append(f"{pin} --hash=sha256:{sha256}")
    return "\n".join(sorted(lines)) + "\n"


def added(lock: str, packages: Sequence[str], resolved: str) -> str:
    """Return *lock* with what *resolved*, another lock, has beyond it: that of *packages*, which the result names."""
    known = pins(lock)
    lines = [line for line in resolved.splitlines() if line[:1] not in ("", "#")]
    more = [line for line in lines if not lock or line.partition("==")[0] not in known]
    here = () if not more or "# for " in lock else (f"# for {_here()}",)
    return "\n".join([f"{_WITH}{', '.join(packages)}", *here, *filter(None, [lock.rstrip()]), *more]) + "\n"


def packages(lock: str) -> tuple[str, ...]:
    """What *lock* was asked to have besides litellm[proxy]."""
    line = next((line for line in lock.splitlines() if line.startswith(_WITH)), "")
    return tuple(filter(None, line.removeprefix(_WITH).split(", ")))


def fits(lock: str) -> bool:
    """Whether *lock* was made for this platform and Python, or for all."""
    made_for = next((line for line in lock.splitlines() if line.startswith("# for ")), None)
    return made_for is None or made_for == f"# for {_here()}"


def _here() -> str:
    return f"{sys.implementation.cache_tag} on {sysconfig.get_platform()}"


def pins(lock: str) -> dict[str, str]:
    """Name → version of what *lock* installs here."""
    found: dict[str, str] = {}
    for line in lock.splitlines():
        if line[:1] in ("", "#", " "):
            continue
        requirement = Requirement(line.partition(" --hash")[0].rstrip(" \\"))
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def older(version: str, other: str) -> bool:
    """Whether *version* came before *other*; not when one of them is no version."""
    try:
        return Version(version) < Version(other)
    except InvalidVersion:
        return False


def changes(before: dict[str, str], after: dict[str, str]) -> Iterable[tuple[str, str, str]]:
    """(name, old version, new version) of what differs, LiteLLM first; empty for "not there"."""
    for name in sorted(before.keys() | after.keys(), key=lambda name: (name != "litellm", name)):
        old, new = before.get(name, ""), after.get(name, "")
        if old != new:
            yield name, old, new
