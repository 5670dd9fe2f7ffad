"""supervisord and pm2, installed into .cache/peers, with the same work as ours in the same run."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".cache" / "peers"
SUPERVISOR, PM2 = "4.3.0", "7.0.4"
CONFIG = """
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[program:it]
command={command}
directory={folder}
autorestart=true
startsecs=0
startretries=1000000
stdout_logfile={log}
stdout_logfile_maxbytes=50MB
stdout_logfile_backups=1000
redirect_stderr=false
stderr_logfile=/dev/null
"""


class Peer:
    """A process manager with one program, whose output goes to *log*; *pid* is the manager's own."""

    name = ""
    install: Callable[[], str]

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self.log = folder, folder / "out.log"
        self.pid = self._start(command)

    def _start(self, command: list[str]) -> int:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    @property
    def cpu(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    @property
    def written(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("out.log*"))


class Supervisord(Peer):
    name = "supervisord"

    def _start(self, command: list[str]) -> int:
        config = self.folder / "supervisord.conf"
        config.write_text(CONFIG.format(folder=self.folder, log=self.log, command=" ".join(map(_quoted, command))))
        self._process = subprocess.Popen(
            [_supervisord(), "-c", str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip
        return self._process.pid

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


class Pm2(Peer):
    name = "pm2"

    def _start(self, command: list[str]) -> int:
        script = self.folder / "it.sh"
        script.write_text(f"#!/bin/sh\nexec {' '.join(map(_quoted, command))}\n")
        script.chmod(0o755)
        self._say("start", str(script), "--name", "it", "--interpreter", "none", "--output", str(self.log), "--error", "/dev/null",
                  "--cwd", str(self.folder))  # fmt: skip
        return int((self.folder / "pm2" / "pm2.pid").read_text())

    def stop(self) -> None:
        self._say("kill")

    def _say(self, *words: str) -> None:
        environ = os.environ | {"PM2_HOME": str(self.folder / "pm2")}
        subprocess.run([_pm2(), *words], env=environ, check=True, capture_output=True, timeout=120)


def _quoted(word: str) -> str:
    return word if word.replace("/", "").replace(".", "").replace("-", "").replace("_", "").isalnum() else f"'{word}'"


@contextlib.contextmanager
def under(
    kind: type[Peer], command: Callable[[Path], list[str]],
    prepared: Callable[[Path], contextlib.AbstractContextManager[T]],
) -> Iterator[tuple[Peer, T]]:  # fmt: skip
    """Run *command* in a folder of its own that is *prepared*; yields the peer and what that made."""
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with prepared(folder) as made:
            peer = kind(folder, command(folder))
            try:
                yield peer, made
            finally:
                peer.stop()


def beside(measure: Callable[[type[Peer]], str], kinds: Iterable[type[Peer]] = ()) -> str:
    """What *measure* says of each peer, or why there is nothing to say of it."""
    told = []
    for kind in kinds or (Supervisord, Pm2):
        try:
            kind.install()
        except (OSError, subprocess.SubprocessError) as error:
            told.append(f"{kind.name} not installed ({type(error).__name__})")
            continue
        try:
            told.append(f"{kind.name} {measure(kind)}".strip())
        except Exception as error:  # a peer that fails is no reason to measure nothing
            told.append(f"{kind.name} failed ({type(error).__name__}: {error})"[:80])
    return ", ".join(told)


@functools.cache
def _supervisord() -> str:
    folder = PLACE / f"supervisor-{SUPERVISOR}-{sys.version_info.major}.{sys.version_info.minor}"
    program = folder / "bin" / "supervisord"
    if not program.exists():
        venv.create(folder, with_pip=True, clear=True)
        # its pkg_resources came with setuptools until that dropped it
        line = [folder / "bin" / "python", "-m", "pip", "install", "-q", f"supervisor=={SUPERVISOR}", "setuptools<81"]
        subprocess.run(line, check=True, capture_output=True, timeout=300)
    return str(program)


@functools.cache
def _pm2() -> str:
    folder = PLACE / f"pm2-{PM2}"
    program = folder / "node_modules" / ".bin" / "pm2"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        line = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--no-optional", f"pm2@{PM2}"]
        subprocess.run(line, check=True, capture_output=True, timeout=300)
    return str(program)


def wait_for(fact: Callable[[], object], seconds: float, pause: float = 0.003) -> None:
    over = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > over:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(pause)


Supervisord.install, Pm2.install = staticmethod(_supervisord), staticmethod(_pm2)
