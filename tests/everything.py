"""All checks, two lanes at once, each to its end whatever happens, and one verdict: `make test` and `make lint`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache" / "reports"
LINT = (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("mypy", "--platform", "darwin"))
#: A little more processes than the smallest machine has cores: tests wait, and those that starve are no proof. `tests/e2e/conftest.py` says what may not overlap.
TOGETHER = ("-n", "2", "--dist", "worksteal")
OTHERS = ("-m", "not once")
REAL = ("-n", "3", "--dist", "loadgroup", "--no-loadscope-reorder", "tests/e2e")
SAYING = threading.Lock()


@dataclass
class Stage:
    name: str
    command: list[str]
    report: Path | None = None
    ok: bool = False
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Run it, then say all it said: what runs beside it speaks before or after."""
        if self.report:
            self.report.unlink(missing_ok=True)
        began = time.monotonic()
        done = subprocess.run(
            self.command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )  # fmt: skip
        self.seconds = time.monotonic() - began
        self.ok = done.returncode == 0
        self.counts = counted(self.report) if self.report else Counter()
        with SAYING:
            print(f"\n== {self.name}: {' '.join(self.command[1:])}", flush=True)
            sys.stdout.buffer.write(done.stdout)
            print(self.line(), flush=True)

    def line(self) -> str:
        tests = ", ".join(f"{number} {what}" for what, number in self.counts.items() if number)
        return f"{'ok    ' if self.ok else 'FAILED'} {self.name:24} {self.seconds:6.0f} s  {tests}"


def counted(report: Path) -> Counter[str]:
    """What a JUnit report says; no report at all counts as one failure."""
    if not report.exists():
        return Counter(failed=1)
    total: Counter[str] = Counter()
    for suite in ET.parse(report).getroot().iter("testsuite"):
        told = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        failed = told["failures"] + told["errors"]
        total.update(passed=told["tests"] - failed - told["skipped"], failed=failed, skipped=told["skipped"])
    return total


def lint(version: str) -> list[Stage]:
    tools = ROOT / f".venv-{version}" / "bin"
    return [Stage(" ".join(words), [str(tools / words[0]), *words[1:]]) for words in LINT]


def tests(name: str, version: str, *arguments: str) -> Stage:
    report = REPORTS / f"{name}.xml"
    python = ROOT / f".venv-{version}" / "bin" / "python"
    return Stage(
        name, [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *arguments], report
    )


def in_turn(stages: list[Stage]) -> None:
    for stage in stages:
        stage.run()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lint", action="store_true", help="lint and types only")
    parser.add_argument(
        "versions", nargs="+", help="the first one also lints and runs what is run once, and the real programs"
    )
    options = parser.parse_args()
    REPORTS.mkdir(parents=True, exist_ok=True)
    os.environ.pop("PYTHONPATH", None)
    first = options.versions[0]
    lanes = [lint(first)]
    if not options.lint:
        lanes[0].append(tests(f"tests-{first}", first, *TOGETHER))
        lanes[0] += [tests(f"tests-{version}", version, *TOGETHER, *OTHERS) for version in options.versions[1:]]
        lanes.append([tests("real-programs", first, *REAL)])
    with ThreadPoolExecutor(len(lanes)) as both:
        list(both.map(in_turn, lanes))
    stages = [stage for lane in lanes for stage in lane]
    print("\n== summary")
    for stage in stages:
        print(stage.line())
    total = sum((stage.counts for stage in stages), Counter())
    total["failed"] += sum(not stage.ok and not stage.counts["failed"] for stage in stages)
    total["passed"] += sum(stage.ok and stage.report is None for stage in stages)
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 0 if all(stage.ok for stage in stages) else 1


if __name__ == "__main__":
    sys.exit(main())
