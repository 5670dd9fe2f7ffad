"""What LiteLLM takes for a deployment, read from its own source: the types of `litellm_params`, and its providers."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PARAMS, _PROVIDERS = "LiteLLM_Params", "LlmProviders"
#: Prefixes and parts of names that get_llm_provider knows without looking anything up.
_SPELLED = re.compile(r"\*|gpt-image.*|amazon_nova.*|.*ft:gpt-.*|.*:.{64,}")
_TRUTHS = frozenset("0 off f false n no 1 on t true y yes".split())  # noqa: SIM905 - as pydantic lists them
#: A type's name in an annotation → how a person calls it.
KINDS = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "dict": "a mapping",
    "list": "a list", "None": "null",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rules:
    """*fields*: name → the kinds it may be of; *providers*: what may stand before the slash; *models* reads the cost map."""

    fields: Mapping[str, frozenset[str]]
    providers: frozenset[str]
    models: Callable[[], str]
    installed: frozenset[str] = frozenset()
    """What is in LiteLLM's environment, by canonical names."""

    def wanted(self, name: str, value: Any) -> str | None:
        """Say what field *name* must be if *value* is not; None where it may be so, or is not judged."""
        kinds = self.fields.get(name)
        if kinds is None or any(_fits(value, kind) for kind in kinds):
            return None
        return " or ".join(KINDS[kind] for kind in KINDS if kind in kinds - {"None"})

    def knows(self, model: str) -> bool:
        """Whether LiteLLM finds the provider of *model*; in doubt it does."""
        prefix, slash, _ = model.partition("/")
        if (slash and prefix in self.providers) or _SPELLED.fullmatch(model):
            return True
        text = self.models()
        if not text or re.search(rf"{re.escape(json.dumps(model))}\s*:", text):
            return True
        patterns = re.findall(r'"pattern"\s*:\s*("(?:[^"\\]|\\.)*")', text[text.rfind('"fallback_generalizations"') :])
        return any(_matches(pattern, model) for pattern in patterns)


def _matches(pattern: str, model: str) -> bool:
    try:
        return re.search(json.loads(pattern), model, re.IGNORECASE) is not None
    except (ValueError, re.error):
        return False


def _fits(value: Any, kind: str) -> bool:
    """As pydantic converts."""
    match kind:
        case "None":
            return value is None
        case "str":
            return isinstance(value, str)
        case "int":
            if isinstance(value, str):
                return re.fullmatch(r"\s*[+-]?\d+(_\d+)*(\.0*)?\s*", value, re.ASCII) is not None
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case "float":
            return isinstance(value, int | float) or (isinstance(value, str) and _number(value))
        case "bool":
            return value in (0, 1) if isinstance(value, int | float) else str(value).lower() in _TRUTHS
        case "dict":
            return isinstance(value, dict)
        case "list":
            return isinstance(value, tuple)
    return True


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def rules(types: tuple[str, str], listed: str, package: str, models: Callable[[], str]) -> Rules:
    """Read LiteLLM's sources: *types* are types/router.py and types/utils.py, *listed* llms/openai_like/providers.json and
    *package* the package's own __init__.py. What is not as expected is not judged."""
    providers = set(re.findall(r'^    \w+ = "([^"]+)"', _body(_PROVIDERS, types[1]), re.MULTILINE))
    found = re.search(r"_custom_logger_compatible_callbacks_literal = Literal\[(.*?)\]", package, re.DOTALL)
    callbacks = re.findall(r'"([^"]+)"', found[1]) if found else []
    try:
        more = set(json.loads(listed))
    except ValueError:
        more = set()
    known = frozenset(providers | more | set(callbacks)) if providers and more and callbacks else frozenset[str]()
    return Rules(dict(_fields(_PARAMS, types)), known, models if known else lambda: "")


def _fields(name: str, texts: tuple[str, str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Those of class *name*, after those of its bases."""
    text = next((text for text in texts if re.search(rf"^class {name}\(", text, re.MULTILINE)), "")
    bases = re.search(rf"^class {name}\((.*)\):", text, re.MULTILINE)
    for base in bases[1].split(",") if bases else ():
        yield from _fields(base.strip(), texts)
    try:
        tree = ast.parse(f"class _:\n{_body(name, text)}\n    pass")
    except (SyntaxError, ValueError, RecursionError):
        return
    converted = set(_decorated(tree))
    for line in tree.body[0].body:  # type: ignore[attr-defined]
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id not in converted:
            yield line.target.id, frozenset(_kinds(line.annotation))


def _decorated(tree: ast.Module) -> Iterator[Any]:
    """The fields that a decorator names: a validator of LiteLLM's own may take what the type does not."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for decorator in function.decorator_list:
            yield from (word.value for word in ast.walk(decorator) if isinstance(word, ast.Constant))


def _kinds(annotation: ast.expr) -> Iterator[str]:
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from (*_kinds(left), *_kinds(right))
        case ast.Constant(value=None):
            yield "None"
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            yield from (*_kinds(inner), "None")
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            for part in parts:
                yield from _kinds(part)
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
            yield name.lower() if name.lower() in KINDS else "?"
        case _:
            yield "?"


def _body(name: str, text: str) -> str:
    """The lines of class *name*: the whole file as a tree would be most of a daemon's memory."""
    found = re.search(rf"^class {name}\b.*:\n((?:[ \t].*\n|\n)+)", text, re.MULTILINE)
    return found[1] if found else ""
