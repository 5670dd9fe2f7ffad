"""What can be known of processes and of the machine, however the system answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def known(look: Callable[[], T], otherwise: T) -> T:
    """Return what *look* finds, or *otherwise*, whatever it raises.

    For psutil, which lets more through than its own errors (SystemError from `cmdline()` on macOS): who only looks must
    not fail for it.
    """
    try:
        return look()
    except Exception:
        return otherwise
