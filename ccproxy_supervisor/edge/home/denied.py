"""Releases that must not run: those known to be malicious and those that the operator denied. Nothing is started to find them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

ROTATE = "change every key this Mac has known"
DROPPED = "litellm_init.pth"  # what malicious releases of LiteLLM have left behind


@cache
def shipped() -> dict[str, list[dict[str, Any]]]:
    """What is known: a daemon knows what it knew when it was started."""
    found: dict[str, list[dict[str, Any]]] = yaml.safe_load(
        (files("ccproxy_supervisor") / "data/litellm/advisories.yaml").read_text()
    )
    return found


def canonical(version: str) -> str:
    """One spelling for each version, whoever built it (`+local`): `1.82.7.0` and `v1.82.7` are 1.82.7."""
    plain = version.strip().lower().removeprefix("v").partition("+")[0]
    return re.sub(r"(\.0+)+$", "", plain)


def malicious(own: Iterable[str] = ()) -> dict[tuple[str, str], str]:
    """Package and version → why not; *own* are versions of LiteLLM that the operator denies."""
    known = {
        (each["package"], canonical(each["version"])): f"{each['about']} ({each['source']})"
        for each in shipped()["denied"]
    }
    return {("litellm", canonical(version)): "upgrade.denied names it" for version in own} | known


def denied(packages: Mapping[str, str], own: Iterable[str] = ()) -> Iterator[str]:
    """Say which of *packages*, name → version, must not be installed nor run, and why."""
    known = malicious(own)
    for name, version in sorted(packages.items()):
        if why := known.get((name, canonical(version))):
            yield f"{'LiteLLM' if name == 'litellm' else name} {version}: {why}"


def packages(environment: Path) -> dict[str, str]:
    """Name → version of what is in *environment*, by the names of its files."""
    names = (path.name.removesuffix(".dist-info") for path in environment.glob("lib/*/site-packages/*.dist-info"))
    parted = (each.partition("-") for each in names)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in parted}


def unfit(environment: Path, own: Iterable[str] = ()) -> Iterator[str]:
    """Say why nothing in *environment* must be started, with the remedy."""
    for what in denied(packages(environment), own):
        remedy = "run: ccproxy-supervisor upgrade" + ("" if "upgrade.denied" in what else f", and {ROTATE}")
        yield f"must not run: {what}; {remedy}"
    for path in environment.glob(f"lib/*/site-packages/{DROPPED}"):
        yield f"must not run: {path.name} came with malicious releases of LiteLLM and runs at every start of Python; run: ccproxy-supervisor upgrade --repair, and {ROTATE}"
