"""Ollama's processes on this machine: the server, and the runners it starts for its models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil

from ccproxy_supervisor.core.wedge import Key, Runner

PATIENCE = 5.0  # seconds from SIGTERM to SIGKILL
#: What psutil raises: on macOS also SystemError, for a process that ends while it is looked at.
GONE = (psutil.Error, OSError, SystemError)
_LOOKS = ["pid", "ppid", "name", "cmdline"]


def runners(port: int) -> tuple[Runner, ...] | None:
    """The runners of the Ollama that listens on *port*; None when they belong to somebody else, or to another one."""
    found, unseen = [], False
    for process in _processes(port):
        try:
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_info()
                found.append(Runner(process.pid, process.create_time(), times.user + times.system, memory.rss))
        except psutil.NoSuchProcess:
            continue
        except GONE:
            unseen = True
    return None if unseen else tuple(found)


def end(runner: Runner) -> bool:
    """End that very process, if it is ours; returns whether it is gone. Blocks for as long as that takes."""
    with suppress(*GONE):
        process = psutil.Process(runner.pid)
        if process.create_time() != runner.born:
            return True
        if process.uids().effective != os.geteuid():
            return False
        process.terminate()
        try:
            process.wait(PATIENCE)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
    return not _lives(runner)


def server(port: int, known: Key | None = None) -> Key | None:
    """What identifies the Ollama that listens on *port*, None when it cannot be told; *known* is looked at first."""
    if known is not None and _lives(Runner(known[0], known[1], 0.0, 0)):
        return known
    for process in _seen(["name"]):
        if _is_ollama(process.info["name"]) and _listens(process, port):
            with suppress(*GONE):
                return process.pid, process.create_time()
    return None


def _processes(port: int) -> Iterator[psutil.Process]:
    table = {process.pid: process for process in _seen(_LOOKS)}
    mine = [one for one in table.values() if _is_runner(one.info, table.get(one.info["ppid"]))]
    parents = {one.info["ppid"] for one in mine}
    for one in mine:
        if len(parents) == 1 or _listens(table[one.info["ppid"]], port):
            yield one


def _seen(looks: list[str]) -> Iterator[psutil.Process]:
    """Every process that can be looked at: one that cannot must not hide the others."""
    with suppress(*GONE):
        for process in psutil.process_iter():
            with suppress(*GONE):
                process.info = process.as_dict(looks)
                yield process


def _is_runner(info: dict[str, Any], parent: psutil.Process | None) -> bool:
    """`ollama runner`; of older versions `ollama_llama_server`, of newer ones `llama-server`: a child of Ollama each."""
    if parent is None or not _is_ollama(parent.info["name"]):
        return False
    name, words = info["name"] or "", info["cmdline"] or []
    return name.startswith(("ollama_llama", "llama-server")) or (_is_ollama(name) and "runner" in words[1:2])


def _is_ollama(name: str | None) -> bool:
    return (name or "").lower() in ("ollama", "ollama.exe")


def _listens(process: psutil.Process, port: int) -> bool:
    with suppress(*GONE):
        found = process.net_connections("tcp")
        return any(one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port for one in found)
    return False


def _lives(runner: Runner) -> bool:
    with suppress(*GONE):
        process = psutil.Process(runner.pid)
        return process.create_time() == runner.born and process.status() != psutil.STATUS_ZOMBIE
    return False
