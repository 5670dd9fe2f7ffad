"""A real daemon has somebody told over HTTP; no secret is shown on the way."""

import json
import os
import signal

import pytest
from click.testing import CliRunner

from ccproxy_supervisor.cli.notify import notify
from daemon import Daemon
from postbox import Postbox

pytestmark = pytest.mark.once

SECRET = "t0ken-of-the-webhook"


@pytest.fixture
def told():
    """A daemon, not started, and the box of who is told."""
    with Postbox() as box, Daemon(proxy={"standby": 1}) as daemon:
        target = {"kind": "webhook", "url": "os.environ/HOOK", "token": "os.environ/TOKEN"}
        daemon.settings["notify"] = {"env_file": "told.env", "targets": [target]}
        daemon.settings["heartbeat"] = {"url": f"{box.url}/alive", "interval": "1s"}
        daemon.change()
        daemon.write("told.env", f"HOOK={box.url}/hook-s3cret\nTOKEN={SECRET}\n")
        (daemon.folder / "told.env").chmod(0o600)
        daemon.box = box
        yield daemon


def events(daemon):
    notices = [json.loads(body) for method, _, _, body in daemon.box.came if method == "POST"]
    return [(notice["event"], notice["title"]) for notice in notices]


def test_a_killed_worker_is_told_once_and_so_is_that_it_is_over(told):
    daemon = told.start()
    daemon.until(lambda _: daemon.pids("standby"))
    daemon.until(lambda _: [method for method, *_ in daemon.box.came] and events(daemon) == [])
    (victim,) = daemon.pids()
    os.kill(victim, signal.SIGKILL)
    daemon.until(lambda _: len(events(daemon)) == 2, 60)

    (began, title), (over, _) = events(daemon)
    assert (began, over) == ("began", "over")
    assert "was killed by SIGKILL" in title
    assert {headers["Authorization"] for method, _, headers, _ in daemon.box.came if method == "POST"} == {
        f"Bearer {SECRET}"
    }
    assert daemon.end() == 0
    daemon.start()
    daemon.until(lambda _: daemon.pids("standby"))
    assert len(events(daemon)) == 2  # what was planned is told to nobody
    shown = daemon.metrics() + json.dumps(daemon.status()) + daemon.last_words()
    assert "s3cret" not in shown
    assert SECRET not in shown


def test_a_test_tells_everybody_and_names_who_cannot_be_told(told):
    runner, words = CliRunner(), ["test", "--config", str(told.home.settings_file)]
    good = runner.invoke(notify, words)
    told.box.answers = [500]
    bad = runner.invoke(notify, words)

    assert (good.exit_code, good.output) == (0, "1. webhook: told\nheartbeat: told\n")
    assert (bad.exit_code, bad.output) == (1, "1. webhook: it answered 500\nheartbeat: told\n")
    assert events(told)[0][1].endswith(": this is a test")


def test_without_anybody_to_tell_it_says_so():
    with Daemon() as daemon:
        told = CliRunner().invoke(notify, ["test", "--config", str(daemon.home.settings_file)])
    assert told.exit_code == 1
    assert "notify.targets is empty" in told.output


def test_a_secret_file_that_others_may_read_is_refused(told):
    (told.folder / "told.env").chmod(0o644)
    result = CliRunner().invoke(notify, ["test", "--config", str(told.home.settings_file)])
    assert result.exit_code == 78
    assert "told.env: is open to other users" in result.output
