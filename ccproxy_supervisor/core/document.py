"""A YAML text as plain values, knowing the line every value was written on."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

from ccproxy_supervisor.core.faults import ConfigError, Fault, Path, dotted

_DEPTH = 40
_NODES = 50_000  # after aliases are followed: a few lines of them can name billions
_EVENTS = 2 * _NODES  # before: a mapping's value has a key
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Document:
    """*value* holds mappings as dicts and sequences as tuples; *faults* are duplicate keys and the like."""

    source: str
    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """Return the line of *path*, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def fault(self, path: Path, message: str) -> Fault:
        return Fault(self.source, message, dotted(path), self.line(path))


def read(text: str, source: str) -> Document:
    """Read one YAML document; raises `ConfigError` when the text is not YAML or asks for too much."""
    document = Document(source)
    try:
        _bound(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                document.value = _Builder(document, loader).build(node, ())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError([_syntax(text, source, error)]) from None
    return document


def _bound(text: str) -> None:
    """Refuse depth before anything recursive sees it, and numbers before they are built."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if count > _EVENTS:
            raise _refused("too many values", event)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH:
            raise _refused("nested too deeply", event)


def _refused(problem: str, at: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    mark: Any = at.start_mark
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _syntax(text: str, source: str, error: yaml.YAMLError) -> Fault:
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
    mark = getattr(error, "problem_mark", None)
    if mark:
        line, column = mark.line, mark.column
    else:  # a character that YAML forbids, by its offset
        before = text.encode(errors="replace")[: getattr(error, "position", 0)].decode(errors="ignore")
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
    return Fault(source, f"cannot read YAML: {reason}", "", line + 1, column + 1)


class _Builder:
    """Turns nodes into values: follows aliases within bounds, applies `<<`, notes lines and duplicate keys."""

    def __init__(self, document: Document, loader: Any) -> None:
        self.document = document
        self.loader = loader
        self.nodes = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > _NODES or len(path) > _DEPTH:
            raise _refused("too many values, or endless aliases", node)
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return tuple(self.build(item, (*path, index)) for index, item in enumerate(node.value))
        return self.scalar(node)

    def scalar(self, node: yaml.Node) -> Any:
        try:
            if isinstance(node, yaml.ScalarNode):
                value = self.loader.construct_object(node)
                if isinstance(value, str):
                    value.encode()  # lone surrogates are in nobody's reach but YAML's
                return value
        except (ValueError, OverflowError):  # a day that no month has, a number of a million digits
            pass
        raise _refused("not a plain value", node)

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                for key, value in self.merges(value_node, path):
                    merged.setdefault(key, value)
                continue
            key = self.key(key_node)
            line = key_node.start_mark.line + 1
            where = (*path, key)
            if key in found:
                first = self.document.lines[where]
                fault = Fault(self.document.source, f"is there twice, first on line {first}", dotted(where), line)
                self.document.faults.append(fault)
                continue
            self.document.lines[where] = line
            found[key] = self.build(value_node, where)
        return merged | found

    def merges(self, node: yaml.Node, path: Path) -> list[tuple[str, Any]]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        pairs: list[tuple[str, Any]] = []
        for source in sources:
            value = self.build(source, (*path, "<<"))
            if not isinstance(value, dict):
                raise _refused("`<<` needs a mapping", source)
            pairs += value.items()
        return pairs

    def key(self, node: yaml.Node) -> str:
        value: Hashable = self.scalar(node)
        return value if isinstance(value, str) else str(node.value)
