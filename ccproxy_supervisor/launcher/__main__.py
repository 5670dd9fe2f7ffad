"""Run by its path, wherever this folder is: `python …/launcher/__main__.py`. Its package gets a name of its own, for
the folder on the import path would let our modules shadow LiteLLM's."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import signal
import sys
from collections.abc import Sequence

NAME = "ccproxy_launcher"


def keep_to_ourselves(words: Sequence[str]) -> None:
    """What we were given must not be held by what the application starts: a port would stay taken when we are gone."""
    for flag, value in itertools.pairwise(words):
        if flag.endswith("-fd"):
            os.set_inheritable(int(value), False)


def stand() -> None:
    """Hear every signal again, whatever our parent ignored or blocked; those that Python, nohup and shells ignore on
    purpose stay so."""
    left = {"SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU"}
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and getattr(number, "name", "") not in left:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)


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
    keep_to_ourselves(sys.argv)
    stand()
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != own]
    load(own)
    importlib.import_module(f"{NAME}.preload" if "--preload-fd" in sys.argv else f"{NAME}.serve").main()
