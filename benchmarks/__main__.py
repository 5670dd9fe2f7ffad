"""python -m benchmarks [--json] [name…]: prints each number as it comes, and all in a table at the end."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from benchmarks.idle import idle
from benchmarks.number import table
from benchmarks.overhead import overhead
from benchmarks.respawn import respawn
from benchmarks.survival import starts, survival
from benchmarks.throughput import throughput
from benchmarks.workers import crash, failover, hung, rolling
from benchmarks.writing import logs

ALL = {
    run.__name__: run
    for run in (failover, survival, starts, crash, rolling, hung, respawn, logs, idle, overhead, throughput)
}


def main() -> int:
    lines = [f"  {name:11} {run.__doc__}" for name, run in ALL.items()]
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="\n".join(lines), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help="which; all unless named")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ALL):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    numbers = []
    for name in options.names or ALL:
        print(f"{name}: {ALL[name].__doc__}", file=sys.stderr, flush=True)
        began = time.monotonic()
        for number in ALL[name]():
            numbers.append(number)
            print(f"  {' | '.join(cell.strip() for cell in number.cells() if cell)}", file=sys.stderr, flush=True)
        print(f"  ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if options.json:
        found = [asdict(number) | {"met": number.met} for number in numbers]
        print(json.dumps({"machine": machine, "load": os.getloadavg()[0], "numbers": found}, indent=1))
    else:
        print(f"\n{machine}, load now {os.getloadavg()[0]:.1f}; medians\n\n{table(numbers)}")
    return 0 if all(number.met is not False for number in numbers) else 1


if __name__ == "__main__":
    sys.exit(main())
