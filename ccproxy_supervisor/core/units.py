"""Durations and sizes as people write them: `500ms`, `1h30m`, `50MiB`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, WithJsonSchema

MiB: Final = 1 << 20
GiB: Final = 1 << 30

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,9})?"
_SECONDS = {"d": Decimal(86400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_BYTES = {
    f"{letter}{unit}": base**power
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, letter in enumerate("KMGT", start=1)
} | {"B": 1}
#: Anchored and without named groups, so that JSON Schema can use them as they are.
DURATION = r"^(?=[0-9])" + "".join(rf"(?:({_NUMBER}){unit})?" for unit in _SECONDS) + "$"
SIZE = rf"^({_NUMBER})({'|'.join(_BYTES)})$"
_LONGEST = Decimal(3650 * 86400)
_LARGEST = 1 << 62


def seconds(text: str) -> float:
    """Read a duration; raises ValueError."""
    match = re.fullmatch(DURATION, text, re.ASCII)
    if match is None:
        raise ValueError("is not a duration; write it like 500ms, 30s, 5m, 7d or 1h30m")
    total = sum(
        Decimal(number) * unit for number, unit in zip(match.groups(), _SECONDS.values(), strict=True) if number
    )
    if total > _LONGEST:
        raise ValueError("is longer than ten years")
    return float(total)


def size(text: str) -> int:
    """Read a size in bytes; raises ValueError."""
    match = re.fullmatch(SIZE, text, re.ASCII)
    if match is None:
        raise ValueError("is not a size; write it like 50MiB, 2GiB or 1GB")
    total = int(Decimal(match[1]) * _BYTES[match[2]])
    if total > _LARGEST:
        raise ValueError("is more than any disk or memory holds")
    return total


def show_duration(value: float) -> str:
    """Write *value* seconds so that `seconds` reads back the same number."""
    rest, parts = Decimal(repr(value)), []
    for unit, length in list(_SECONDS.items())[:3]:
        count, rest = divmod(rest, length)
        parts.append(f"{count:f}{unit}" if count else "")
    if 0 < rest < 1 and rest == rest.quantize(_SECONDS["ms"]):
        parts.append(f"{(rest * 1000).normalize():f}ms")
    elif rest:
        parts.append(f"{rest.normalize():f}s")
    return "".join(parts) or "0s"


def show_size(value: int) -> str:
    """Write *value* bytes so that `size` reads back the same number."""
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"


def _duration(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return seconds(value)
    if info.context is None:  # from our own code: seconds
        return value
    raise ValueError(f"has no unit; write {str(value)[:20]}s" if _number(value) else "must be a duration such as 30s")


def _size(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return size(value)
    if info.context is None:  # from our own code: bytes
        return value
    raise ValueError(
        "has no unit; write it like 50MiB, 2GiB or 1GB" if _number(value) else "must be a size such as 50MiB"
    )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _off(value: Any, info: ValidationInfo) -> Any:
    if value is False or value == "off":  # YAML 1.1 reads a plain `off` as false
        return None
    if info.context is not None and (value is None or value is True):
        raise ValueError("must be a duration such as 5m, or off")
    return value


_DURATION_SCHEMA = {"type": "string", "pattern": DURATION, "examples": ["500ms", "30s", "5m", "7d", "1h30m"]}
_SIZE_SCHEMA = {"type": "string", "pattern": SIZE, "examples": ["50MiB", "2GiB", "1GB"]}

Duration = Annotated[
    float,
    Field(ge=0),
    BeforeValidator(_duration),
    PlainSerializer(show_duration, return_type=str, when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
Timeout = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(_duration),
    PlainSerializer(show_duration, return_type=str, when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
Size = Annotated[
    int,
    Field(gt=0),
    BeforeValidator(_size),
    PlainSerializer(show_size, return_type=str, when_used="json"),
    WithJsonSchema(_SIZE_SCHEMA),
]
IntervalOrOff = Annotated[
    Timeout | None,
    BeforeValidator(_off),
    PlainSerializer(lambda value: "off" if value is None else show_duration(value), return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [_DURATION_SCHEMA, {"enum": ["off", False]}]}),
]
