"""Show the logs."""

from __future__ import annotations

import heapq
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from operator import attrgetter

import click

from ccproxy_supervisor.cli.common import config_option, glimpse, home_of
from ccproxy_supervisor.cli.output import fail, say
from ccproxy_supervisor.core.model import LOGS
from ccproxy_supervisor.view.entry import LEVELS, Entry, Wanted
from ccproxy_supervisor.view.files import LogFiles
from ccproxy_supervisor.view.follow import Follower
from ccproxy_supervisor.view.lines import Lines

SOME, MANY = 50, 100_000  # lines shown unless -n says otherwise, without and with --since; looked at without
EVERY = 0.25  # seconds
Show = Callable[[Entry], object]


@click.command()
@config_option
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(LOGS))
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, across rotations, until ^C.")
@click.option(
    "--level", type=click.Choice(LEVELS), help="Only these and worse; stdout counts as info, stderr as warning."
)
@click.option(
    "--worker", type=int, metavar="N", help="Only of worker number N; stdout and stderr do not say whose they are."
)
@click.option(
    "--since", metavar="WHEN", help="What was written in a duration like 10m, or from a time like 2026-11-23T08:00 on."
)
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), help=f"How many at most, before those that -f adds.  [default: {SOME}]"
)
@click.option(
    "--raw",
    "--json",
    "raw",
    is_flag=True,
    help="Print the lines as they stand in the files; on a terminal what would steer it is written in code.",
)
def logs(
    config: str | None, names: tuple[str, ...], *, follow: bool, level: str | None, worker: int | None,
    since: str | None, lines: int | None, raw: bool,
) -> None:  # fmt: skip
    """Show the logs NAME (supervisor, litellm, stdout, stderr; all if none is named), rotated files too, merged by time.

    What workers print on stdout and stderr carries no time: such a line is placed where it must have been written at
    the latest, before the next line of its file that has a time, or when the file was last written to. With -f it has
    the time at which it came.

    Example: ccproxy-supervisor logs -f --level warning

    Example: ccproxy-supervisor logs litellm --since 1h --worker 3
    """
    folder = glimpse(home_of(config), "logs", "directory", "logs")
    if not folder.is_dir() and not follow:
        fail(f"cannot show the logs: there is no folder {folder}; has the daemon ever run?")
    show, wanted = _printer(raw=raw), Wanted(level, worker)
    horizon = _horizon(since)
    count = lines if lines is not None else SOME if since is None else MANY
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        files = [stack.enter_context(closing(LogFiles(folder, log, whole=follow))) for log in names or LOGS]
        _show_past(files, wanted, horizon, count, show)
        if follow:
            _follow(files, wanted, show)


def _show_past(files: Iterable[LogFiles], wanted: Wanted, horizon: float | None, count: int, show: Show) -> None:
    newest = (each.newest_first() for each in files)
    found: list[Entry] = []
    for looked_at, entry in enumerate(heapq.merge(*newest, key=attrgetter("at"), reverse=True)):
        if horizon is not None and entry.at < horizon:
            break
        if len(found) == count:
            if horizon is not None:
                say(f"older lines are left out; -n shows more than {count}", err=True)
            break
        if horizon is None and looked_at == max(count, MANY):
            say(f"only the last {looked_at} lines were looked at; --since goes further back", err=True)
            break
        if wanted(entry):
            found.append(entry)
    for entry in reversed(found):
        show(entry)
    sys.stdout.flush()


def _follow(files: Iterable[LogFiles], wanted: Wanted, show: Show) -> None:
    followers = [Follower(each) for each in files]
    while True:
        now = time.time()
        for entry in heapq.merge(*(each.news(now) for each in followers), key=attrgetter("at")):
            if wanted(entry):
                show(entry)
        sys.stdout.flush()
        time.sleep(EVERY)


def _printer(*, raw: bool) -> Show:
    out = sys.stdout.buffer
    if raw and sys.stdout.isatty():
        return lambda entry: say(entry.line.decode(errors="replace"))
    if raw:
        return lambda entry: out.write(entry.line + b"\n")
    lines = Lines(
        f"{datetime.now().astimezone():%Y-%m-%d}", colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    )
    return lambda entry: out.write(lines.show(entry).encode(errors="replace") + b"\n")


def _horizon(since: str | None) -> float | None:
    if since is None:
        return None
    from ccproxy_supervisor.core.units import seconds

    try:
        return time.time() - seconds(since)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(since).timestamp()
    except ValueError:
        raise click.BadParameter(f"{since!r} is neither a duration like 10m nor a time like 2026-11-23T08:00") from None
