"""The bytecode of an environment, which is ours to make: Python takes it in place of the source that was looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_UNCHECKED = 0b01  # PEP 552: taken without a look at the source


def cached(path: Path) -> bool:
    """Whether Python looks for bytecode in *path*; macOS makes no difference between large and small letters."""
    return path.suffix.lower() == ".pyc" and path.parent.name.lower() == "__pycache__"


def stray(path: Path, recorded: Collection[Path]) -> bool:
    """Whether the bytecode in *path* cannot be what Python itself wrote for a file among *recorded*."""
    source = re.sub(r"\.[^.]+(\.opt-\d)?\.pyc$", ".py", path.name)
    header = b""
    with suppress(FileNotFoundError), open(path, "rb") as file:  # who runs here may have replaced it
        header = file.read(8)
    return path.parent.parent / source not in recorded or (len(header) == 8 and header[4] & 0b11 == _UNCHECKED)


def purge(environment: Path) -> None:
    """Remove all of it; Python makes it again from the sources, which can be looked at."""
    for place, _, names in os.walk(environment):
        for path in (Path(place, name) for name in names):
            if cached(path):
                path.unlink(missing_ok=True)


def compiled(environment: Path) -> None:
    """Make it, so that the first start need not. What is not for this Python is passed over; nothing is executed."""
    words = ("-I", "-S", "-W", "ignore", "-m", "compileall", "-q", "--invalidation-mode", "timestamp")
    with subprocess.Popen(
        (sys.executable, *words, str(environment / "lib")),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, 10)  # the workers that serve meanwhile come first
            process.wait()
        except BaseException:
            process.kill()
            raise
