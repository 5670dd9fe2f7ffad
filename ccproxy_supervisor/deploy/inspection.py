"""Look at an installed environment without running any of it.

Our own interpreter reads files; the environment's is not started, for it would run every `.pth` before anything else.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ccproxy_supervisor.deploy.bytecode import cached, stray

#: setuptools' own, harmless, for as long as it is exactly this (https://github.com/pypa/setuptools, _distutils_hack).
KNOWN_PTH = frozenset({"2638ce9e2500e572a5e0de7faed6661eb569d1b696fcba07b0dd223da5f5d224"})
#: What the venv module itself puts into bin; no package may. On macOS `Python` is `python`.
SKELETON = re.compile(r"(python|𝜋thon)(3(\.\d+)?t?)?|activate(\..+)?", re.IGNORECASE)
#: What an interpreter looks for beside itself, to learn where its modules are.
BEARINGS = re.compile(r"pyvenv\.cfg|.+\._pth|pybuilddir\.txt", re.IGNORECASE)
#: Where a package may have files besides its modules. Not the folder itself: pyvenv.cfg says what `python` is.
SHARED = ("bin", "etc", "include", "share")


def inspect(environment: Path) -> list[str]:
    """Return what is wrong with the packages of *environment*, worst first; empty when nothing is."""
    sites = sorted(environment.glob("lib/python3*/site-packages"))
    if len(sites) != 1:
        return [f"{environment.name} has {len(sites)} site-packages folders instead of one"]
    site = sites[0]
    faults = list(_startup(site))
    recorded: set[Path] = set()
    for package in sorted(site.glob("*.dist-info")):
        faults += _record(package, environment, recorded)
    return faults + list(_unrecorded(site, environment, recorded))


def _startup(site: Path) -> Iterator[str]:
    """Whatever the interpreter would run or add to its path when it starts.

    A `.pth` that only adds folders is no better: they may hold a sitecustomize.
    """
    for path in sorted(site.iterdir()):
        name = path.name
        known = name.endswith(".pth") and hashlib.sha256(path.read_bytes()).hexdigest() in KNOWN_PTH
        if name.endswith((".pth", ".start")) and not known:  # .start: PEP 829
            yield f"{name} would run code at every start of the interpreter, or let it find some elsewhere"
        elif name.partition(".")[0] in ("sitecustomize", "usercustomize"):
            yield f"{name} would run at every start of the interpreter"


def _record(package: Path, environment: Path, recorded: set[Path]) -> Iterator[str]:
    """Hold the files of one *package* against its RECORD; those it names are added to *recorded*."""
    site, name = package.parent, package.name.removesuffix(".dist-info")
    try:
        with open(package / "RECORD", newline="", encoding="utf-8") as file:
            rows = [(row[0], row[1]) for row in csv.reader(file) if row]
    except (OSError, ValueError, IndexError) as error:
        yield f"{name}: cannot read its RECORD: {error}"
        return
    for written, digest in rows:
        path = Path(os.path.normpath(site / written))
        recorded.add(path)
        if not _allowed(path, site, environment):
            yield f"{name}: {written} is not a place for a package's file"
        elif cached(path):
            continue  # not a package's to bring: it is removed before any of it runs
        elif digest:
            yield from _digest(name, written, path, digest)
        elif path != package / "RECORD":
            yield f"{name}: {written} has no hash in RECORD"


def _allowed(path: Path, site: Path, environment: Path) -> bool:
    if path.is_relative_to(site):
        return True
    parts = path.relative_to(environment).parts if path.is_relative_to(environment) else ()
    if len(parts) < 2 or parts[0] not in SHARED:
        return False
    return parts[0] != "bin" or not (SKELETON.fullmatch(parts[1]) or BEARINGS.fullmatch(parts[1]))


def _digest(name: str, written: str, path: Path, digest: str) -> Iterator[str]:
    algorithm, _, expected = digest.partition("=")
    if algorithm not in ("sha256", "sha384", "sha512"):
        yield f"{name}: {written} has a hash of kind {algorithm} in RECORD"
        return
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, algorithm).digest()
    except OSError as error:
        yield f"{name}: cannot read {written}: {error.strerror}"
        return
    if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != expected:
        yield f"{name}: {written} is not the file that RECORD names"


def _unrecorded(site: Path, environment: Path, recorded: set[Path]) -> Iterator[str]:
    """Files that no package owns, and links; what Python compiled from an owned file is passed over."""
    for folder in (site, environment / "bin"):
        for place, folders, names in os.walk(folder):
            for path in (Path(place, name) for name in sorted((*folders, *names))):
                ours = path.parent == folder != site and SKELETON.fullmatch(path.name)
                if path.is_symlink() and not ours:
                    yield f"{path.relative_to(environment)} is a link, which no package brings"
                elif path.name in folders or ours:
                    continue
                elif stray(path, recorded) if cached(path) else path not in recorded:
                    yield f"{path.relative_to(environment)} belongs to no package"
