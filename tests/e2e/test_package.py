"""The package as strangers install it: a wheel, by uv and by pip, outside the sources."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ccproxy_supervisor import __version__

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
UV = str(Path(sys.executable).with_name("uv"))


def run(*words, **more):
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=300, check=False, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by way of the source distribution, as a release is."""
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


def test_the_wheel_has_everything_that_is_not_code_too(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = ROOT / "ccproxy_supervisor/data"
    files = {Path(folder, name) for folder, _, found in os.walk(data, followlinks=True) for name in found}
    wanted = {f"ccproxy_supervisor/data/{file.relative_to(data)}" for file in files if "__pycache__" not in file.parts}
    assert (
        {"ccproxy_supervisor/data/config/supervisor.yaml", "ccproxy_supervisor/data/launchd/README.md"}
        <= wanted
        <= names
    )
    assert f"ccproxy_supervisor-{__version__}.dist-info/licenses/LICENSE" in names


def test_uv_tool_install_gives_a_command_that_works(wheel, tmp_path):
    environment = os.environ | {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    locked = ROOT / "requirements.lock"
    run(UV, "tool", "install", "--quiet", "--python", sys.executable, "--constraints", locked, wheel, env=environment)
    command = tmp_path / "bin/ccproxy-supervisor"
    works_anywhere(command, tmp_path)


def test_pip_install_gives_a_command_that_works(wheel, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = (tmp_path / "venv/bin/python", "-m", "pip", "install", "-qq")
    run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", ROOT / "requirements.lock")
    run(*pip, "--no-deps", "--no-index", wheel)
    works_anywhere(tmp_path / "venv/bin/ccproxy-supervisor", tmp_path)


def works_anywhere(command, folder):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CCPROXY_HOME": str(folder / "home")}
    assert f"ccproxy-supervisor {__version__}" in run(command, "version", cwd=folder, env=environment)
    assert "traefik/traefik.yaml" in run(command, "files", cwd=folder, env=environment)
    assert '"proxy"' in run(command, "schema", cwd=folder, env=environment)
    run(command, "files", "supervisor.yaml", "--to", folder / "home", cwd=folder, env=environment)
    assert (folder / "home/supervisor.yaml").exists()
