"""What is wrong with a configuration, in words an operator can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

MOST = 50  # faults that are told; what has more is not mended one by one
LONGEST = 100  # characters of a word that somebody could have meant
Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """Write `("fleet", 0, "port")` as `fleet[0].port`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong; *line* and *column* count from 1."""

    source: str
    message: str
    path: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)
        return ": ".join(part for part in (where, self.path, self.message) if part)


class ConfigError(Exception):
    """A configuration that cannot be used; carries every fault that was found, of very many the first."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        found = tuple(faults)
        more = [Fault(found[0].source, f"and {len(found) - MOST} more faults")] if len(found) > MOST else []
        self.faults = (*found[:MOST], *more)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the *known* word that was most likely meant."""
    if len(word) > LONGEST:
        return None
    return next(iter(get_close_matches(word, known, n=1, cutoff=likeness)), None)


def told(error: BaseException) -> str:
    """Name *error*, and where it was raised; of a group its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace, place = error.__traceback__, ""
    while trace:
        code = trace.tb_frame.f_code
        place, trace = f" ({code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})", trace.tb_next
    return f"{type(error).__name__}: {error}{place}"
