"""Files of KEY=VALUE lines, as shells and dotenv write them; values are never expanded."""

from __future__ import annotations

import re

from ccproxy_supervisor.core.faults import ConfigError, Fault
from ccproxy_supervisor.core.values import variable

_LINE = re.compile(r"(?:export\s+)?([^=\s]+)\s*=\s*(.*)", re.DOTALL)
_QUOTED = re.compile(r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)")\s*(?:(?<=\s)\#.*)?""", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t"}


def parse_env(text: str, source: str) -> dict[str, str]:
    """Read the variables of an env file; raises `ConfigError` with every fault, none of which shows a value."""
    found: dict[str, str] = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            name, value = _read(stripped)
        except ValueError as error:
            faults.append(Fault(source, str(error), "", number))
            continue
        if name in found:
            faults.append(Fault(source, f"{name} is there twice", "", number))
        found[name] = value
    if faults:
        raise ConfigError(faults)
    return found


def _read(line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("must be KEY=VALUE")
    try:
        return variable(match[1]), _value(match[2])
    except ValueError as error:
        raise ValueError(f"{match[1]}: {error}") from None


def _value(written: str) -> str:
    if "\x00" in written:
        raise ValueError("must not contain a NUL character")
    quoted = _QUOTED.fullmatch(written)
    if quoted and quoted[1] is not None:
        return quoted[1]
    if not quoted and written.startswith(("'", '"')):
        raise ValueError("the quotes do not match")
    if "${" in written:
        raise ValueError("nothing is expanded here; put the value in single quotes to keep its ${")
    if quoted:
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), quoted[2], flags=re.DOTALL)
    return re.split(r"\s#", written, maxsplit=1)[0].rstrip()
