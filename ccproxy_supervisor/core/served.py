"""What a worker says that it serves, held against what the config names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LONGEST = 300  # characters of a reason


def dropped(expected: Mapping[str, int], said: bytes) -> dict[str, str]:
    """Name what LiteLLM left out of *expected* (name → deployments), each with the reason; nothing where it did not say.

    *said* is the launcher's JSON, from a process that runs other people's code: of any shape.
    """
    try:
        told = json.loads(said)
        there, why = dict(told["deployments"]), dict(told["dropped"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return {
        name: _reason(wanted, there.get(name), why.get(name))
        for name, wanted in expected.items()
        if _count(there.get(name)) < wanted
    }


def _reason(wanted: int, there: Any, why: Any) -> str:
    words = "".join(letter for letter in str(why or "it does not say why") if letter.isprintable())[:LONGEST]
    return f"{wanted - _count(there)} of {wanted} deployments: {words}" if wanted > 1 else words


def _count(there: Any) -> int:
    return there if isinstance(there, int) else 0
