"""An unplanned ending as a record (plain JSON values), and that record as sentences for a person."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ccproxy_supervisor.core.lines import spoken
from ccproxy_supervisor.core.model import Ending, Transition
from ccproxy_supervisor.core.trend import slope

MIB = 1 << 20
LINES = 8  # of output that are told
STUCK = "stuck"  # the cause of the supervisor's own ending by its watchdog
CRASHED, KILLED = "crashed", "killed"  # and by a bug of its own, or by others
UNDONE = "undone"  # a renewal that was taken back
OLLAMA = "ollama"  # stuck, and nothing helped
CHANGES = ("install", "upgrade", "rollback", "repair")  # of LiteLLM; their records are of no worker

STATUSES = {
    0: "it left by itself, without being asked",
    3: "LiteLLM refused to start",
    70: "its event loop was stuck and it ended itself",
    75: "it left before its requests were finished",
    126: "its program could not be executed",
    127: "its program was not found",
}
SIGNALS = {
    signal.SIGKILL: "nobody here asked for it: the system (memory pressure) or a person did it",
    signal.SIGTERM: "nobody here asked for it: a person or another program did it",
    signal.SIGSEGV: "a fault in native code",
    signal.SIGABRT: "it gave up on itself, usually a fault in native code",
}


def incident(
    moved: Transition,
    ending: Ending,
    timeline: Iterable[tuple[float, str]],
    memory: Iterable[tuple[float, int]],
    probes: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Build the record; *timeline* and *memory* carry wall times."""
    record: dict[str, Any] = {
        "at": utc(ending.at),
        "cause": str(ending.cause),
        "worker": moved.number,
        "slot": moved.slot,
        "generation": moved.generation,
        "pid": moved.pid,
        "uptime": round(ending.uptime, 3),
        "status": ending.status,
        "exit": "" if ending.status is None else in_words(ending.status),
        "detail": ending.detail,
        "timeline": [{"at": utc(at), "state": state} for at, state in timeline],
        "probes": list(probes),
        "memory": [{"at": utc(at), "bytes": used} for at, used in memory],
        "output": list(ending.output),
    }
    return record | {"told": headline(record)}


def stuck(at: float, stack: Sequence[str]) -> dict[str, Any]:
    """The record of a supervisor that its watchdog ended; *at* is when the next one found the *stack*."""
    record: dict[str, Any] = {"at": utc(at), "cause": STUCK, "worker": 0, "output": list(stack)}
    return record | {"told": headline(record)}


def crashed(at: float, traceback: Sequence[str]) -> dict[str, Any]:
    """The record of a supervisor that met a bug of its own, told by itself."""
    told = "The supervisor met a bug of its own and ended."
    return {"at": utc(at), "cause": CRASHED, "output": list(traceback), "told": told}


def killed(at: float, seen: float, booted: float, kept: int = 0) -> dict[str, Any]:
    """The record of a supervisor that could not say goodbye: *seen* is when it last wrote its state, *booted* when
    the machine was started, *at* when the next one found that and *kept* so many workers."""
    ended = (
        "The machine went down, or was restarted, before the supervisor had stopped"
        if booted > seen
        else "The supervisor was killed, or crashed in native code"
    )
    told = f"{ended}; it was last known to run at {utc(seen)}."
    if kept:
        told += f" {'Its worker' if kept == 1 else f'{kept} workers'} went on serving and {'was' if kept == 1 else 'were'} kept."
    return {"at": utc(at), "cause": KILLED, "output": [], "told": told}


def undone(at: float, why: str) -> dict[str, Any]:
    """The record of a new supervisor that did not take over, told by the one before it."""
    return {"at": utc(at), "cause": UNDONE, "told": f"The renewal was taken back: {why}."}


def change(at: float, action: str, version: str | None, detail: str) -> dict[str, Any]:
    """The record of an *action* (`upgrade`, `rollback`, …) on LiteLLM that was not carried out."""
    told = f"The {action} of LiteLLM{f' to {version}' if version else ''} was not carried out; nothing was changed."
    return {"at": utc(at), "cause": action, "detail": detail, "told": told}


def helpless(at: float, why: str, tried: str) -> dict[str, Any]:
    """The record of an Ollama that stayed stuck after all that might be done."""
    return {"at": utc(at), "cause": OLLAMA, "detail": tried, "told": f"Ollama answers and generates nothing: {why}."}


def headline(record: Mapping[str, Any]) -> str:
    """One plain sentence."""
    if record.get("cause") in (*CHANGES, CRASHED, KILLED, UNDONE, OLLAMA):
        return str(record.get("told"))
    if record.get("cause") == STUCK:
        return "The supervisor's own event loop was stuck; its watchdog ended it and a new one was started."
    return sentence(record)


def sentence(record: Mapping[str, Any]) -> str:
    """How a worker ended, whether that was planned or not."""
    place = "on standby" if record.get("slot") is None else f"in slot {record['slot']}"
    return f"Worker {record.get('worker')} {place} {happened(record)}."


def tell(record: Mapping[str, Any]) -> list[str]:
    """Everything a person needs to know of it, in sentences; the first is the headline."""
    lines = [headline(record)]
    if meaning := _meaning(record):
        lines.append(f"What that means: {meaning}.")
    if record.get("detail"):
        lines.append(f"Reason given: {record['detail']}")
    output = record.get("output") or []
    if record.get("cause") in (*CHANGES, UNDONE, OLLAMA):
        return lines
    if record.get("cause") == STUCK:
        return [*lines, "It was here, innermost call first:", *_quoted(_main_thread(output)[:LINES])]
    lines += _about_memory(record.get("memory") or [])
    lines += _about_probes(record.get("probes") or [])
    lines += (
        ["Its last words:", *_quoted([spoken(line) for line in output[-LINES:]])]
        if output
        else ["It left no last words."]
    )
    return lines


def in_words(status: int) -> str:
    """An exit status as the kernel means it; negative: killed by that signal."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def spell(seconds: float) -> str:
    """`2 h 5 min`: the two largest units that matter."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), list[str]()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
        elif parts:
            break
        left %= size
    return " ".join(parts)


def utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _quoted(lines: Iterable[str]) -> list[str]:
    return [f"  | {line}" for line in lines]


def _main_thread(stack: Sequence[str]) -> Sequence[str]:
    """The part of a dump that says what the event loop did: faulthandler writes the oldest thread last."""
    begins = [number for number, line in enumerate(stack) if "(most recent call first)" in line]
    return stack[begins[-1] + 1 :] if begins else stack


def happened(record: Mapping[str, Any]) -> str:
    """What became of a worker, as the rest of a sentence about it."""
    after = f"after {spell(record.get('uptime') or 0.0)}"
    match record.get("cause"):
        case "spawn_failed":
            return "could not be started"
        case "start_timeout":
            return f"was not ready {after} and was ended"
        case "unresponsive":
            whom = "users" if record.get("detail") else "probes"
            return f"stopped answering its {whom} {after} and was ended"
        case "memory":
            return f"grew past its memory limit {after} and was replaced"
        case "age":
            return f"reached its age limit {after} and was replaced"
        case "reload" | "restart" | "upgrade" as cause:
            return f"was replaced by {'an' if cause == 'upgrade' else 'a'} {cause} {after}"
        case "stop":
            return f"was stopped {after}"
        case _:
            return f"{record.get('exit') or 'ended'} {after}"


def _meaning(record: Mapping[str, Any]) -> str:
    status = record.get("status")
    if record.get("cause") != "exited" or status is None:
        return ""
    return SIGNALS.get(-status, "") if status < 0 else STATUSES.get(status, "")


def _about_memory(memory: Sequence[Mapping[str, Any]]) -> list[str]:
    if not memory:
        return []
    samples = [(datetime.fromisoformat(each["at"]).timestamp(), each["bytes"]) for each in memory]
    growth = slope(samples) if len(samples) > 9 else None
    trend = f", growing {growth / MIB:.0f} MiB an hour" if growth and growth > MIB else ""
    return [f"It used {samples[-1][1] / MIB:.0f} MiB when last looked at{trend}."]


def _about_probes(probes: Sequence[Mapping[str, Any]]) -> list[str]:
    bad = 0
    for probe in reversed(probes):
        if probe["ok"]:
            break
        bad += 1
    if not bad:
        return []
    times, reason = "time" if bad == 1 else "times", probes[-1].get("reason") or "unknown"
    return [f"Its last answer to a probe was bad {bad} {times} in a row ({reason})."]
