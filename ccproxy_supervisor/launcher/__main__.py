"""Run by its path, wherever this folder is: `python …/launcher/__main__.py`. Its package gets a name of its own, for
the folder on the import path would let our modules shadow LiteLLM's."""

from __future__ import annotations

import importlib.util
import os
import sys

NAME = "ccproxy_launcher"


def load(folder: str) -> None:
    """Import the package that is *folder* as `NAME`."""
    spec = importlib.util.spec_from_file_location(
        NAME, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != own]
    load(own)
    importlib.import_module(f"{NAME}.serve").main()
