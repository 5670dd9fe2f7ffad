from __future__ import annotations

import sys

import pytest

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.litellm import parse_litellm
from ccproxy_supervisor.core.modules import dotted_names, modules
from ccproxy_supervisor.edge.home.handlers import compiled, newer, parsed


def finder(files):
    return lambda path: (f"home/{path}", files[path]) if path in files else None


def follow(names, files, judge=compiled):
    found, faults = modules(names, finder(files), judge)
    return sorted(found), [str(fault) for fault in faults]


CONFIG = """
model_list: [{model_name: gpt-4.1, litellm_params: {model: openai/gpt-4.1, api_base: "http://a.b/c"}}]
litellm_settings:
  callbacks: [custom.calls.handler, prometheus]
  success_callback: langfuse
  custom_provider_map: [{provider: echo, custom_handler: echo.handler}]
general_settings: {custom_auth: guard.check, key_management_settings: {custom_secret_manager: vault.Manager}}
guardrails: [{guardrail_name: g, litellm_params: {guardrail: rails.Rail, mode: pre_call}}]
mcp_tools: [{name: t, handler: tools.one.call}]
"""


def test_every_place_of_a_config_may_name_a_module():
    names = parse_litellm(CONFIG, {}).names

    assert names == {
        "custom.calls.handler",
        "echo.handler",
        "guard.check",
        "vault.Manager",
        "rails.Rail",
        "tools.one.call",
    }


@pytest.mark.parametrize(
    "text", ["one", "a.b c", "../x.y", "a..b", "1.5", "http://a.b", "a/b.c", ".a.b", "a.b.", "a." * 200 + "b"]
)
def test_what_no_module_is_called_is_not_looked_for(text):
    assert list(dotted_names({"key": (text,)})) == []


def test_modules_are_followed_through_their_imports_and_those_of_others_are_left():
    files = {
        "echo.py": "import helper, os.path\nfrom litellm import CustomLLM\nimport helper as again\n",
        "helper.py": "def late():\n    from pack.deep import thing\n    import importlib\n    importlib.import_module('named')\n",
        "pack/__init__.py": "from . import sister\n",
        "pack/deep.py": "from .sister import x\nfrom ..outside import y\nfrom .sub import mod\n",
        "pack/sister.py": "import echo\n",
        "pack/sub/__init__.py": "",
        "pack/sub/mod.py": "",
        "named.py": "__import__('last')\n",
        "last.py": "",
        "unused.py": "(",
    }

    assert follow(["echo.handler"], files) == (sorted(set(files) - {"unused.py"}), [])


def test_a_package_is_found_by_its_own_file():
    assert follow(["pack.handler"], {"pack/__init__.py": ""}) == (["pack/__init__.py"], [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = (\n", "home/echo.py:1:5: cannot compile it: '(' was never closed"),
        ("\nreturn 1\n", "home/echo.py:2:1: cannot compile it: 'return' outside function"),
        ("a = 1\n  b = 2\n", "home/echo.py:2: cannot compile it: unexpected indent"),
        ("-" * 10_000 + "1", "home/echo.py: cannot compile it: "),
        ("x = '\0'\n", "home/echo.py: cannot compile it: "),
    ],
)
def test_a_module_that_cannot_be_compiled_is_told_by_file_and_line(text, told):
    found, (fault,) = follow(["echo.handler"], {"echo.py": text})

    assert found == ["echo.py"]
    assert fault.startswith(told) or (text.startswith("a") and fault.startswith("home/echo.py:2:"))


def test_a_fault_two_imports_away_is_found_and_nothing_is_run(capsys):
    files = {"echo.py": "print('run')\nimport helper\n", "helper.py": "import worse\n", "worse.py": "def f(:\n"}

    assert follow(["echo.handler"], files)[1] == ["home/worse.py:1:7: cannot compile it: invalid syntax"]
    assert capsys.readouterr().out == ""


def test_what_is_newer_than_our_python_is_for_the_workers_to_judge():
    assert follow(["echo.handler"], {"echo.py": "x = (\n"}, parsed) == (["echo.py"], [])
    assert follow(["echo.handler"], {"echo.py": "import b\n", "b.py": ""}, parsed) == (["b.py", "echo.py"], [])
    assert [newer(version) for version in ((3, 99), sys.version_info[:2], (3, 10), None)] == [True, False, False, False]


def test_a_warning_of_the_compiler_is_the_authors():
    assert follow(["echo.handler"], {"echo.py": "x = '\\d'\n"}) == (["echo.py"], [])


def test_modules_are_kept_in_memory_and_therefore_bounded():
    files = {f"m{number}.py": "#" * (1 << 20) for number in range(5)}

    with pytest.raises(ConfigError, match="more than 4 MiB of modules"):
        modules([f"m{number}.x" for number in range(5)], finder(files), compiled)
