"""The floors of the house: imports go down, never up, nor sideways into another edge."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import faulty

HOUSE = Path(__file__).parents[1] / "ccproxy_supervisor"
WORDS = {"__future__", "collections", "contextlib", "dataclasses", "enum", "functools", "itertools", "signal", "typing"}
VALUES = {
    "ast",
    "base64",
    "bisect",
    "datetime",
    "decimal",
    "difflib",
    "hashlib",
    "html",
    "ipaddress",
    "json",
    "math",
    "re",
}
VALUES |= {"mmap", "urllib.parse"}  # of `mmap` only the type
DAEMON = {"anyio", "h11", "psutil", "pydantic", "yaml"}
ANYTHING = sys.stdlib_module_names
HEART = ("condition", "ports", "worker", "trial", "seat", "succession", "relief", "pool", "supervisor")
#: The app and its helpers.
ROOMS = (
    "lasting",
    "event_bus",
    "overview",
    "upstreams",
    "health_feed",
    "alerting",
    "prober",
    "orders",
    "persistence",
    "adopter",
    "recovery",
    "renewer",
    "parts",
    "app",
)
#: Of each part of the house: what else of the house it may know, and which libraries.
FLOORS = {
    "core": (set(), WORDS | VALUES | {"pydantic", "pydantic_core", "yaml"}),
    **{noun: ({"core", *HEART[:place]}, WORDS | {"anyio"}) for place, noun in enumerate(HEART)},
    "system": (set(), ANYTHING | {"psutil"}),
    "edge": ({"core", "launcher", "system"}, ANYTHING | DAEMON),
    **{
        noun: ({"core", *HEART, "edge", "system", *ROOMS[:place]}, ANYTHING | DAEMON)
        for place, noun in enumerate(ROOMS)
    },
    "launcher": (set(), ANYTHING | {"litellm", "uvicorn", "uvloop"}),  # it runs in LiteLLM's environment
    "deploy": ({"core", "edge", "system"}, ANYTHING | {"anyio", "packaging", "psutil", "yaml"}),
    "selftest": ({"core", "launcher", "edge", "deploy", "system"}, ANYTHING | {"anyio", "psutil", "yaml"}),
    "view": ({"core"}, ANYTHING | {"rich"}),
    "cli": (
        {"core", "edge", "app", "deploy", "selftest", "view"},
        ANYTHING | {"anyio", "click", "packaging", "rich", "yaml"},
    ),
    "__main__": ({"cli"}, ANYTHING),
    "__init__": (set(), set()),
}
IMPURE = {"open", "print", "input", "exec", "eval", "now", "utcnow", "today"}  # calls the core must not make
HEAVY = {
    "httpx",
    "jinja2",
    "packaging",
    "pip",
    "prometheus_client",
    "requests",
    "rich",
    "starlette",
    "structlog",
    "trio",
    "uvicorn",
}  # memory of a daemon


def imported(tree, part):
    """The full names of what a module imports; `from package import module` counts as the module. The launcher is
    copied and does not know its name: only there, and only within the folder, an import may be relative."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == (node.level and part == "launcher"), "imports are absolute"
            if node.level == 0:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(where, source):
    """What the module *where*, as `edge.logs.sink`, imports or calls and must not."""
    part, *inner = where.split(".")
    friends, libraries = FLOORS[part]
    if where.startswith("edge.notify."):
        libraries = libraries | {"httpx"}  # loaded by the first notice
    tree = ast.parse(source)
    for name in imported(tree, part):
        first, *rest = name.split(".")
        if first != HOUSE.name:
            if not libraries & {".".join(name.split(".")[:length]) for length in (1, 2)}:
                yield f"{where} must not import {name}"
        elif part == "launcher" or rest[0] not in {part, *friends, "__version__"}:
            yield f"{where} must not import {name}"
        elif rest[0] == part == "edge" and rest[1] != inner[0]:
            yield f"{where} must not know another edge: {name}"
    if part == "core":
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        said = {getattr(call, "id", None) or getattr(call, "attr", None) for call in calls}
        yield from (f"{where} must not call {name}()" for name in said & IMPURE)


def test_imports_go_down():
    found = []
    for path in HOUSE.rglob("*.py"):
        where = ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        found += violations(where, path.read_text())
    assert found == []


def test_commands_print_through_one_door():
    """All but what `logs` and `status` show in colours, which `view` has made printable."""
    doors = {"echo", "secho", "style", "print", "confirm", "prompt", "dump", "write"}
    found = set()
    for path in (HOUSE / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "attr", None) or getattr(
                getattr(node, "func", None), "id", None
            )
            if name in doors and not (name == "confirm" and isinstance(node.func, ast.Name)):
                found.add((path.stem, name))
    found -= {("files", "write")}  # into a file
    assert found == {
        *(("output", each) for each in ("echo", "style", "confirm", "print")),
        ("logs", "write"),
    }


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("core.policy", "import anyio"),
        ("core.policy", "import os.path"),
        ("core.model", "from time import monotonic"),
        ("core.units", "import socket"),
        ("core.ollama", "from urllib.request import urlopen"),
        ("core.plan", "from ccproxy_supervisor.edge.home import Home"),
        ("core.history", "datetime.now()"),
        ("core.envfile", "text = open(path).read()"),
        ("condition", "from ccproxy_supervisor.worker import Worker"),
        ("worker", "from ccproxy_supervisor.edge import process"),
        ("worker", "from ccproxy_supervisor import pool"),
        ("worker", "import time"),
        ("pool", "import asyncio"),
        ("pool", "from ccproxy_supervisor.supervisor import Supervisor"),
        ("supervisor", "import psutil"),
        ("edge.admin", "from ccproxy_supervisor.edge.fetch import fetch"),
        ("edge.admin", "from ccproxy_supervisor.edge import logs"),
        ("edge.logs.sink", "from ccproxy_supervisor.edge.metrics import Metrics"),
        ("edge.metrics", "from ccproxy_supervisor.worker import Worker"),
        ("edge.page", "import httpx"),
        ("edge.home", "def later():\n    from rich import print"),
        ("overview", "from ccproxy_supervisor.app import Daemon"),
        ("app", "from ccproxy_supervisor.deploy import upgrade"),
        ("app", "import ccproxy_supervisor.cli.common"),
        ("app", "import click"),
        ("launcher", "from ccproxy_supervisor.core.model import State"),
        ("launcher", "from ccproxy_supervisor import __version__"),
        ("launcher", "import anyio"),
        ("deploy.maintenance", "from ccproxy_supervisor.app import run"),
        ("deploy.maintenance", "from ccproxy_supervisor.cli.common import ask"),
        ("view.table", "from ccproxy_supervisor.edge.home import Home"),
        ("cli.status", "from ccproxy_supervisor.pool import Pool"),
    ],
)
def test_what_breaks_the_floors_is_found(where, line):
    assert len(list(violations(where, line))) == 1


def test_within_an_edge_a_package_may_know_itself():
    assert not list(violations("edge.logs.sink", "from ccproxy_supervisor.edge.logs.reader import Reader"))


def loaded_by_the_daemon():
    show = "import sys, ccproxy_supervisor.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_daemon_imports_all_of_its_own_when_it_starts():
    """What it imported later would be of another version after an upgrade."""
    loaded = loaded_by_the_daemon()
    later = []
    for path in HOUSE.rglob("*.py"):
        where = ".".join((HOUSE.name, *path.relative_to(HOUSE).with_suffix("").parts)).removesuffix(".__init__")
        if where in loaded:
            names = {
                name for name in imported(ast.parse(path.read_text()), path.parent.name) if name.startswith(HOUSE.name)
            }
            later += [f"{where}: {name}" for name in names if not {name, name.rpartition(".")[0]} & loaded]
    assert later == []


def test_what_the_tests_break_is_there():
    assert [faulty.found(target)[1] for target in faulty.TARGETS]


def test_the_daemon_never_loads_what_only_commands_need():
    loaded = loaded_by_the_daemon()
    assert HEAVY & {name.partition(".")[0] for name in loaded} == set()
    assert [name for name in loaded if name.startswith(("ccproxy_supervisor.deploy", "ccproxy_supervisor.cli"))] == []
