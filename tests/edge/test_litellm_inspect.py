from __future__ import annotations

import py_compile
import re
from py_compile import PycInvalidationMode

import pytest

from ccproxy_supervisor.deploy.bytecode import purge
from ccproxy_supervisor.deploy.inspection import inspect
from wheels import recorded, unpack

SETUPTOOLS = b"import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; enabled and __import__('_distutils_hack').add_shim(); \n"


@pytest.fixture
def environment(tmp_path):
    """As venv makes it; its interpreter tells when somebody starts it."""
    folder = tmp_path / "1.2.3"
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    for name in ("python", "python3", "activate", "activate.fish", "Activate.ps1"):
        (folder / "bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (folder / "bin" / name).chmod(0o700)
    yield folder
    assert not (tmp_path / "started").exists(), "the environment's own interpreter was started"


def row_added(site, row):
    with (site / "litellm-1.2.3.dist-info" / "RECORD").open("a") as record:
        record.write(f"{row}\n")


def test_a_clean_environment_has_no_faults(environment):
    unpack(environment, "1.2.3")

    assert inspect(environment) == []


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("litellm_init.pth", b"import os; os.system('true')\n", "litellm_init.pth would run code at every start"),
        ("quiet.pth", b"# harmless\nlib\nimport\tos\n", "quiet.pth would run code at every start"),
        ("distutils-precedence.pth", SETUPTOOLS + b"import os\n", "distutils-precedence.pth would run code"),
        ("marked.pth", b"\xef\xbb\xbfimport os\n", "marked.pth would run code"),
        ("away.pth", b"/tmp/elsewhere\n", "away.pth would run code"),
        ("inside.pth", b"litellm/vendor\n", "inside.pth would run code"),
        ("compiled.pth", b"litellm/__pycache__\n", "compiled.pth would run code"),
        ("hook.start", b"litellm.hook:main\n", "hook.start would run code at every start"),
        ("sitecustomize.py", b"", "sitecustomize.py would run at every start"),
        ("usercustomize.cpython-311-darwin.so", b"", "usercustomize.cpython-311-darwin.so would run at every start"),
    ],
)
def test_what_the_interpreter_would_run_at_its_start_is_found_also_when_recorded(environment, name, content, fault):
    unpack(environment, "1.2.3", {name: content})

    assert [found for found in inspect(environment) if fault in found]


def test_a_package_named_sitecustomize_is_found(environment):
    unpack(environment, "1.2.3", {"sitecustomize/__init__.py": b""})

    assert inspect(environment) == ["sitecustomize would run at every start of the interpreter"]


def test_the_path_file_of_setuptools_is_known_by_its_content(environment):
    unpack(environment, "1.2.3", {"distutils-precedence.pth": SETUPTOOLS})

    assert inspect(environment) == []


def test_a_file_that_no_package_owns_is_found(environment):
    site = unpack(environment, "1.2.3")
    (site / "litellm" / "extra.py").write_text("")
    (environment / "bin" / "litellm").write_text("")

    assert [re.sub(r"python3\.\d+", "python3", fault) for fault in inspect(environment)] == [
        "lib/python3/site-packages/litellm/extra.py belongs to no package",
        "bin/litellm belongs to no package",
    ]


def test_a_changed_file_and_a_missing_one_are_found(environment):
    site = unpack(environment, "1.2.3")
    (site / "litellm" / "__init__.py").write_text("import os")
    (site / "litellm" / "proxy" / "__init__.py").unlink()

    assert inspect(environment) == [
        "litellm-1.2.3: litellm/__init__.py is not the file that RECORD names",
        "litellm-1.2.3: cannot read litellm/proxy/__init__.py: No such file or directory",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "../../../pyvenv.cfg",
        "../../../bin/python",
        "../../../bin/python3.13",
        "../../../bin/PYTHON3",
        "../../../bin/activate.fish",
        "../../../bin/pyvenv.cfg",
        "../../../bin/python._pth",
        "../../../lib/other.py",
        "../../../../elsewhere",
        "/etc/passwd",
    ],
)
def test_a_package_may_not_have_files_where_the_environment_has_its_own(environment, path):
    site = unpack(environment, "1.2.3")
    row_added(site, recorded(path, b""))

    assert f"litellm-1.2.3: {path} is not a place for a package's file" in inspect(environment)


def test_scripts_and_shared_data_are_fine(environment):
    site = unpack(environment, "1.2.3")
    for path in ("bin/litellm", "bin/python-dotenv", "share/man/man1/litellm.1", "etc/litellm.toml"):
        (environment / path).parent.mkdir(parents=True, exist_ok=True)
        (environment / path).write_bytes(b"x")
        row_added(site, recorded(f"../../../{path}", b"x"))

    assert inspect(environment) == []


def compiled(site, name, mode=PycInvalidationMode.TIMESTAMP):
    source = site / "litellm" / "__init__.py"
    py_compile.compile(str(source), str(site / "litellm" / name), invalidation_mode=mode)


def test_what_python_compiled_is_fine_and_what_hides_as_that_is_not(environment):
    site = unpack(environment, "1.2.3")
    compiled(site, "__pycache__/__init__.cpython-311.pyc")
    compiled(site, "__pycache__/__init__.cpython-311.opt-1.pyc", PycInvalidationMode.CHECKED_HASH)
    compiled(site, "__pycache__/__init__.cpython-313.pyc", PycInvalidationMode.UNCHECKED_HASH)
    compiled(site, "__pycache__/sitecustomize.pyc")
    compiled(site, "hidden.pyc")

    assert sorted(fault.partition("site-packages/")[2] for fault in inspect(environment)) == [
        "litellm/__pycache__/__init__.cpython-313.pyc belongs to no package",
        "litellm/__pycache__/sitecustomize.pyc belongs to no package",
        "litellm/hidden.pyc belongs to no package",
    ]


def test_bytecode_that_a_package_brings_is_removed_and_not_held_against_it(environment):
    path = "litellm/__pycache__/__init__.cpython-311.pyc"
    site = unpack(environment, "1.2.3", {path: b"anything", "litellm/__PYCACHE__/x.pyc": b"on macOS the same folder"})

    purge(environment)

    assert not list(environment.rglob("*.pyc"))
    assert (site / "litellm" / "__init__.py").exists()
    assert inspect(environment) == []


@pytest.mark.parametrize("at", ["lib/python3/site-packages/litellm/extra", "bin/litellm"])
def test_links_are_found_whatever_they_lead_to(environment, tmp_path, at):
    site = unpack(environment, "1.2.3")
    link = site / "litellm" / "extra" if at.startswith("lib") else environment / at
    link.symlink_to(tmp_path)

    assert [re.sub(r"python3\.\d+", "python3", fault) for fault in inspect(environment)] == [
        f"{at} is a link, which no package brings"
    ]


def test_a_file_without_a_hash_and_one_with_a_weak_hash_are_found(environment):
    site = unpack(environment, "1.2.3")
    for name in ("loose.py", "weak.py"):
        (site / name).write_text("")
    row_added(site, "loose.py,,\nweak.py,md5=1B2M2Y8AsgTpgAmY7PhCfg,0")

    assert inspect(environment) == [
        "litellm-1.2.3: loose.py has no hash in RECORD",
        "litellm-1.2.3: weak.py has a hash of kind md5 in RECORD",
    ]


def test_a_package_without_record_is_found(environment):
    site = unpack(environment, "1.2.3")
    (site / "litellm-1.2.3.dist-info" / "RECORD").unlink()

    assert "litellm-1.2.3: cannot read its RECORD" in inspect(environment)[0]


def test_an_environment_without_packages_is_no_environment(environment):
    assert inspect(environment) == ["1.2.3 has 0 site-packages folders instead of one"]
