"""The Python modules that a LiteLLM config names, of those that lie beside it, and what they import from there."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ccproxy_supervisor.core.faults import ConfigError, Fault

#: Given a path below the config's folder: how messages name it, and its text; None where there is no such file.
Find = Callable[[str], tuple[str, str] | None]
#: Given a text and its name: its tree. Raises what `compile` does.
Compile = Callable[[str, str], ast.Module]
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_LONGEST = 200  # characters of a dotted name
_MOST = 4 << 20  # characters of all modules: the daemon keeps them


def dotted_names(value: Any) -> Iterator[str]:
    """Every text in *value* that could be `module.instance`: LiteLLM has some thirty places for one, more in each version
    (get_instance_fn), and what is not a module of the folder costs a look."""
    if isinstance(value, str) and len(value) <= _LONGEST and _DOTTED.fullmatch(value):
        yield value
    elif isinstance(value, dict | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from dotted_names(item)


def modules(names: Iterable[str], find: Find, compiled: Compile) -> tuple[dict[str, str], list[Fault]]:
    """Follow *names*; returns path below the folder → text, and what cannot be compiled. Nothing is run.

    Raises `ConfigError` for a file that cannot be read.
    """
    pending = [path for name in sorted(names) for path in _files(name.rpartition(".")[0])]
    found: dict[str, str] = {}
    faults: list[Fault] = []
    seen: set[str] = set()
    while pending:
        path = pending.pop()
        read = None if path in seen else find(path)
        seen.add(path)
        if read is None:
            continue
        shown, found[path] = read
        if sum(map(len, found.values())) > _MOST:
            raise ConfigError([Fault(shown, "cannot take it along: more than 4 MiB of modules beside the config")])
        try:
            pending += _imports(compiled(found[path], shown), path)
        except SyntaxError as error:
            faults.append(Fault(shown, f"cannot compile it: {error.msg}", "", error.lineno, error.offset))
        except (ValueError, RecursionError, MemoryError) as error:
            faults.append(Fault(shown, f"cannot compile it: {error or 'nested too deeply'}"))
    return found, faults


def _files(module: str) -> Iterator[str]:
    """Where *module* and the packages it is in could be; of `a.b`: a/__init__.py, a/b/__init__.py, a/b.py."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        yield f"{'/'.join(parts[:depth])}/__init__.py"
    yield f"{'/'.join(parts)}.py"


def _imports(tree: ast.Module, path: str) -> Iterator[str]:
    package = path.split("/")[:-1]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _files(alias.name)
            case ast.ImportFrom(module=module, names=names, level=level):
                around = package[: len(package) - level + 1] if level else []
                base = [*around, *filter(None, [module])]
                yield from _files(".".join(base)) if base else ()
                for alias in names:
                    yield from _files(".".join([*base, alias.name]))
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield from _files(name)
