"""The modules beside a LiteLLM config, read and compiled but never run."""

from __future__ import annotations

import ast
import sys
import warnings


def compiled(text: str, name: str) -> ast.Module:
    """Find what is wrong with the form of a module, by our own Python; raises as `compile` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the author's, and told by the worker
        tree = ast.parse(text, name)
        compile(tree, name, "exec", dont_inherit=True)  # what no parser finds, such as `return` outside of a function
    return tree


def parsed(text: str, name: str) -> ast.Module:
    """As `compiled`, but judge nothing: for a Python that knows more than ours."""
    try:
        return compiled(text, name)
    except SyntaxError:
        return ast.Module([], [])


def newer(python: tuple[int, int] | None) -> bool:
    """Whether *python* knows more than ours."""
    return python is not None and python > sys.version_info[:2]
