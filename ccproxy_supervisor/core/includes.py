"""A LiteLLM config and what it includes as one document, put together as LiteLLM does it.

Lists grow, any other value is replaced whole, files are taken in the order in which they are named, each once
(litellm/proxy/common_utils/config_includes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from ccproxy_supervisor.core.document import Document, read
from ccproxy_supervisor.core.faults import ConfigError, Fault, Path
from ccproxy_supervisor.core.values import REFERENCE

INCLUDE = "include"
#: Given where an `include` stands and what it says: the included file's own name, to be passed back, and its text.
Include = Callable[[str, str], tuple[str, str]]


@dataclass(slots=True)
class Merged:
    """*value* by section; a fault is told where it was written. *warnings* tell of what gets lost."""

    value: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    root: Document | None = None
    text: str = ""
    """The first file, or one that says the same without including any."""
    _owner: dict[str, Document] = field(default_factory=dict)
    _items: dict[str, list[tuple[Document, int]]] = field(default_factory=dict)

    def fault(self, path: Path, message: str) -> Fault:
        """Name the file, line and path of *path*, or of the nearest thing around it."""
        section, *rest = path
        items = self._items.get(str(section), ())
        if rest and isinstance(rest[0], int) and rest[0] < len(items):
            document, index = items[rest[0]]
            return document.fault((section, index, *rest[1:]), message)
        owner = self._owner.get(str(section), self.root)
        assert owner is not None, "the first file was read"
        return owner.fault(path, message)

    def take(self, document: Document) -> None:
        """Merge one file into what was read before."""
        self.root = self.root or document
        for key, new in document.value.items():
            if key == INCLUDE:
                continue
            old = self.value.get(key)
            joined = (*old, *new) if isinstance(new, tuple) and isinstance(old, tuple) else None
            if joined is None and old is not None and old != new:
                first = self._owner[key].fault((key,), "")
                place = f"{first.source}:{first.line}"
                self.warnings.append(
                    document.fault((key,), f"replaces the one of {place} whole; LiteLLM joins lists only")
                )
            if isinstance(new, tuple):
                before = self._items.get(key, []) if joined is not None else []
                self._items[key] = [*before, *((document, index) for index in range(len(new)))]
            self.value[key] = new if joined is None else joined
            self._owner[key] = document


def gather(text: str, source: str, include: Include | None) -> Merged:
    """Read *text* and, with *include*, all that it includes; faults are collected."""
    merged, pending, seen = Merged(text=text), [(source, text)], {source}
    while pending:
        file, text = pending.pop(0)
        document = _read(text, file, merged, root=merged.root is None)
        if document is None:
            continue
        merged.take(document)
        for name in _includes(document, merged):
            try:
                found = include(file, name) if include else None
            except ConfigError as error:
                merged.faults += error.faults
                continue
            if found and found[0] not in seen:
                seen.add(found[0])
                pending.append(found)
    if len(seen) > 1:
        merged.text = yaml.safe_dump(_plain(merged.value), sort_keys=False, allow_unicode=True)
    return merged


def _plain(value: Any) -> Any:
    """As YAML knows it: lists instead of tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _read(text: str, source: str, merged: Merged, *, root: bool) -> Document | None:
    """Read one file; an included one may be empty, the first may not."""
    try:
        document = read(text, source)
    except ConfigError as error:
        merged.faults += error.faults
        return None
    merged.faults += document.faults
    if not document.value and not root:
        document.value = {}
    if not isinstance(document.value, dict):
        merged.faults.append(document.fault((), "must be a mapping with a model_list"))
        return None
    return document


def _includes(document: Document, merged: Merged) -> Iterator[str]:
    names = document.value.get(INCLUDE, ())
    if not isinstance(names, tuple):
        merged.faults.append(document.fault((INCLUDE,), "must be a list"))
    elif not all(isinstance(name, str) and "\0" not in name for name in names):
        merged.faults.append(document.fault((INCLUDE,), "must be a list of files"))
    else:
        yield from names


def is_reference(value: Any) -> bool:
    """Whether LiteLLM looks *value* up in its environment."""
    return isinstance(value, str) and value.startswith(REFERENCE)
