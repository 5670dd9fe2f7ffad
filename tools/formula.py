"""python tools/formula.py PYLOCK: write the Homebrew formula of this checkout from what is locked; `make formula` does it."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "Formula/ccproxy-supervisor.rb"
FILES = "https://files.pythonhosted.org/packages"  # redirects from these well-known paths to where a file is
HEAD = """\
# Written by `make formula` from requirements.lock: change that, not this.
#
#   brew tap you/ccproxy /path/to/this/repository
#   brew install --HEAD you/ccproxy/ccproxy-supervisor
class CcproxySupervisor < Formula
  include Language::Python::Virtualenv

  desc "{desc}"
  homepage "https://docs.litellm.ai"
  license "MIT"
  head "file://#{{File.expand_path("..", __dir__)}}", using: :git, branch: "main"

  depends_on "rust" => :build # pydantic-core
  depends_on "libyaml"
  depends_on "python@3.13"
"""
TAIL = """
  def install
    virtualenv_install_with_resources
  end

  def caveats
    <<~EOS
      Make a home, then a service of it (not `brew services`: it would not wait for streams):
        ccproxy-supervisor init ~/ccproxy && ccproxy-supervisor install
      After `brew upgrade`: ccproxy-supervisor install, which stops the old one when its streams are finished.
    EOS
  end

  test do
    assert_match "ccproxy-supervisor ", shell_output("#{bin}/ccproxy-supervisor version")
    assert_match "timers", shell_output("#{bin}/ccproxy-supervisor selftest --list")
  end
end
"""


def resources(lock: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Of each package on a Mac: name, address and hash of its sources, or of its wheel where there are none."""
    for package in lock["packages"]:
        if "win32" in package.get("marker", "") or "directory" in package:
            continue
        source = package.get("sdist")
        kind = "source" if source else "py3"
        found = source or next(wheel for wheel in package["wheels"] if wheel["url"].endswith("-none-any.whl"))
        name = package["name"]
        url = f"{FILES}/{kind}/{name[0]}/{name}/{found['url'].rpartition('/')[2]}"
        yield name, url, found["hashes"]["sha256"]


def formula(lock: dict[str, Any]) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = HEAD.format(desc=project["description"].partition(":")[0])
    for name, url, sha in sorted(resources(lock)):
        text += f'\n  resource "{name}" do\n    url "{url}"\n    sha256 "{sha}"\n  end\n'
    return text + TAIL


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(formula(tomllib.loads(Path(sys.argv[1]).read_text())))
