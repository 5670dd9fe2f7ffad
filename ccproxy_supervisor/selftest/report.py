"""The report: what was found where, in words that give nobody away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ccproxy_supervisor.selftest.step import Outcome, Result, Step

HIDDEN = "[hidden]"
MARKS = {Outcome.HOLDS: "✓", Outcome.FAILS: "✗", Outcome.NOTED: "·", Outcome.UNKNOWN: "?", Outcome.SKIPPED: "-"}
#: What may name a person or a machine, whoever wrote it.
TELLING = re.compile(
    r"(?:/Users|/home|/private/var/folders|/var/folders|/root|/tmp|/private/tmp)(?:/[^\s:;,'\")]*)?"
    r"|\b(?!127\.)\d{1,3}(?:\.\d{1,3}){3}\b"
    r"|\b[\w-]+\.local\b"
    r"|(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Report:
    """*machine* says on what it was made; *caller* and *job* are by step, *about* is what was seen of launchd."""

    machine: Mapping[str, str]
    steps: Iterable[Step]
    caller: Mapping[str, Result] = field(default_factory=dict)
    job: Mapping[str, Result] = field(default_factory=dict)
    about: Mapping[str, Result] = field(default_factory=dict)
    conclusions: tuple[str, ...] = ()

    @property
    def failed(self) -> list[str]:
        """What the daemon takes for granted and was not so."""
        found = [(step.name, each.get(step.name)) for step in self.steps for each in (self.caller, self.job)]
        found += self.about.items()
        return list(dict.fromkeys(name for name, result in found if result and result.verdict is Outcome.FAILS))

    def document(self) -> dict[str, object]:
        sides = {"caller": self.caller, "job": self.job, "launchd": self.about}
        found = {side: {name: result.document() for name, result in each.items()} for side, each in sides.items()}
        return {"machine": dict(self.machine), **found, "failed": self.failed, "conclusions": list(self.conclusions)}


def text(report: Report) -> str:
    """Write it for people: every step with its assumption, in the caller and in the job, and where those differ."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield "ccproxy-supervisor selftest"
    yield from (f"  {name}: {value}" for name, value in report.machine.items())
    yield ""
    for step in report.steps:
        yield f"{step.name}: {step.assumes}"
        for side, results in (("here", report.caller), ("in launchd", report.job)):
            if result := results.get(step.name):
                yield f"  {MARKS[result.verdict]} {side}: {result.said}"
        if differs(step.name, report.caller, report.job):
            yield "  ! the job differs from its caller"
    if report.about:
        yield "\nlaunchd"
        yield from (f"  {MARKS[result.verdict]} {name}: {result.said}" for name, result in report.about.items())
    yield ""
    yield from report.conclusions
    yield f"does not hold: {', '.join(report.failed)}" if report.failed else "everything that could be looked at holds"


def differs(name: str, caller: Mapping[str, Result], job: Mapping[str, Result]) -> bool:
    return name in caller and name in job and caller[name].verdict != job[name].verdict


def scrubbed(said: str, private: Iterable[str]) -> str:
    """Hide *private* words (names of people and machines), home folders, other machines' addresses."""
    said = TELLING.sub(HIDDEN, said)
    for word in sorted({word for word in private if len(word) > 1}, key=len, reverse=True):
        said = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", HIDDEN, said, flags=re.IGNORECASE)
    return said
