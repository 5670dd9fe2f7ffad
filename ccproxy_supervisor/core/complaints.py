"""What pydantic found wrong, as faults with the line and in words of the file's author."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ccproxy_supervisor.core.document import Document
from ccproxy_supervisor.core.faults import MOST, Fault, Path, dotted, nearest

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of settings",
}
_LIMITS = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}


def complaints(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Fault]:
    """Translate every error of *error*; unknown keys are compared with the keys of *model*."""
    known, found = dict(_keys(model)), error.errors(include_url=False)
    told = {id(one) for one in sorted(found, key=lambda one: document.line(one["loc"]) or 0)[:MOST]}
    words = (_say(one, known) if id(one) in told else "is wrong too" for one in found)
    return [document.fault(_place(one["loc"]), said) for one, said in zip(found, words, strict=True)]


def _place(loc: Path) -> Path:
    return loc[:-1] if loc[-1:] == ("[key]",) else loc


def _say(error: ErrorDetails, known: dict[str, tuple[str, ...]]) -> str:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "extra_forbidden":
        return f"unknown key; {_meant(error['loc'], known)}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = context["expected"].replace("'", "")
        return f"must be {choices}{_not(error)}"
    if kind in _LIMITS:
        return f"must be {_LIMITS[kind]} {context[next(iter(context))]:g}"
    if kind in _WANTED:
        quoted = "; put it in quotes" if kind == "string_type" and isinstance(given, bool | int | float) else ""
        return f"must be {_WANTED[kind]}{_not(error)}{quoted}"
    return error["msg"]


def _not(error: ErrorDetails) -> str:
    """Repeat what was given, except what may be a secret."""
    given = error["input"]
    if error["loc"][:2] == ("proxy", "env"):
        return ""
    if given is None or isinstance(given, bool):
        return f", not {({None: 'null', True: 'true', False: 'false'})[given]}"
    if isinstance(given, str):
        return f", not {given[:40]!r}"
    if isinstance(given, dict | tuple):
        return f", not a {'mapping' if isinstance(given, dict) else 'list'}"
    return f", not {str(given)[:40]}"


def _meant(path: Path, known: dict[str, tuple[str, ...]]) -> str:
    """Name the nearest key beside the unknown one, else keys of that name elsewhere, else all it could be."""
    word, beside = str(path[-1]), known[".".join(part for part in path[:-1] if isinstance(part, str))]
    if near := nearest(word, beside):
        return f"did you mean {dotted((*path[:-1], near))}?"
    if elsewhere := [f"{section}.{word}" for section, keys in known.items() if word in keys and section != "fleet"]:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"known are {', '.join(dotted((*path[:-1], key)) for key in beside)}"


def _keys(model: Any, path: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    yield path, tuple(model.model_fields)
    for name, field in model.model_fields.items():
        inner = next((part for part in (field.annotation, *_arguments(field.annotation)) if _is_model(part)), None)
        if inner:
            yield from _keys(inner, f"{path}.{name}" if path else name)


def _arguments(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def _is_model(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
