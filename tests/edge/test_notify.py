import json
import stat
import threading
import time
from urllib.parse import parse_qs

import anyio
import pytest

from ccproxy_supervisor.core.contacts import Contact, Contacts
from ccproxy_supervisor.core.notices import Notice
from ccproxy_supervisor.edge.notify import Notifier, UndeliveredError, deliver, notifier, send
from ports import free_ports
from postbox import Postbox

pytestmark = pytest.mark.anyio
NOTICE = Notice("began", 7, "Worker 1 „hängt“", ("Ollama does not answer",), grave=True)
NIGHT, DAY = time.struct_time((2026, 11, 25, 3, 0, 0, 2, 329, 0)), time.struct_time((2026, 11, 25, 12, 0, 0, 2, 329, 0))


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def box():
    with Postbox() as box:
        yield box


@pytest.fixture(autouse=True)
def _closed():
    yield
    if send._client.cache_info().currsize:
        send._client().close()
        send._client.cache_clear()


def test_a_webhook_is_told_in_json_with_its_token(box):
    deliver(Contact("webhook", f"{box.url}/hook", token="t0ken"), NOTICE, "mini")

    ((method, path, headers, body),) = box.came
    assert (method, path, headers["Authorization"]) == ("POST", "/hook", "Bearer t0ken")
    assert json.loads(body) == {
        "event": "began", "incident": 7, "host": "mini", "urgent": True, "text": "Ollama does not answer",
        "title": "ccproxy on mini: Worker 1 „hängt“",
    }  # fmt: skip


def test_slack_is_told_in_its_words(box):
    deliver(Contact("slack", box.url), NOTICE, "mini")
    assert json.loads(box.came[0][3]) == {
        "text": ":rotating_light: *ccproxy on mini: Worker 1 „hängt“*\nOllama does not answer"
    }


def test_ntfy_is_told_with_title_priority_and_tag(box):
    deliver(Contact("ntfy", f"{box.url}/topic", token="tk"), NOTICE, "mini")
    _, path, headers, body = box.came[0]
    assert (path, body.decode()) == ("/topic", "Ollama does not answer")
    assert (headers["Priority"], headers["Tags"], headers["Authorization"]) == ("urgent", "rotating_light", "Bearer tk")
    assert headers["Title"].encode("latin-1").decode() == "ccproxy on mini: Worker 1 „hängt“"


def test_pushover_is_told_by_a_form(box):
    deliver(Contact("pushover", box.url, token="app", user="me"), Notice("over", 7, "over"), "mini")
    form = parse_qs(box.came[0][3].decode())
    assert form == {
        "token": ["app"],
        "user": ["me"],
        "title": ["ccproxy on mini: over"],
        "message": ["over"],
        "priority": ["0"],
    }


def program(tmp_path, text):
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_command_finds_everything_in_its_environment(tmp_path):
    tell = program(
        tmp_path, f'echo "$1|$CCPROXY_EVENT|$CCPROXY_INCIDENT|$CCPROXY_TITLE|$CCPROXY_TEXT" > {tmp_path}/told'
    )
    deliver(Contact("command", command=(tell, "me")), NOTICE, "mini")
    assert (tmp_path / "told").read_text() == "me|began|7|ccproxy on mini: Worker 1 „hängt“|Ollama does not answer\n"


def test_macos_is_told_by_a_script_that_takes_words_as_words(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(send, "_run", lambda command, _: seen.append(command))
    deliver(Contact("macos"), Notice("began", 1, 'a " quote', ("line",)), "mini")
    (command,) = seen
    assert command[0] == "/usr/bin/osascript"
    assert command[-2:] == ['ccproxy on mini: a " quote', "line"]
    assert "quote" not in " ".join(command[:-2])


@pytest.mark.parametrize(
    ("contact", "reason"),
    [
        (Contact("webhook", "http://127.0.0.1:PORT/s3cret"), "cannot reach it: ConnectError"),
        (Contact("command", command=("/nowhere/at/all",)), "cannot run '/nowhere/at/all': No such file or directory"),
        (Contact("command", command=("/bin/sh", "-c", "exit 3")), "cannot run '/bin/sh': exit status 3"),
    ],
)
def test_why_it_failed_is_said_without_a_secret(contact, reason):
    url = contact.url.replace("PORT", str(free_ports(1)[0]))
    with pytest.raises(UndeliveredError) as error:
        deliver(Contact(contact.kind, url, command=contact.command), NOTICE, "mini")
    assert str(error.value) == reason


def test_an_answer_that_refuses_is_no_delivery(box):
    box.answers = [401]
    with pytest.raises(UndeliveredError, match="it answered 401"):
        deliver(Contact("webhook", f"{box.url}/s3cret"), NOTICE, "mini")


class Desk:
    """An office, what it noted, and what was delivered; *fails* makes the next deliveries fail."""

    def __init__(self, contacts, clock=DAY, well=True):
        self.notes, self.delivered, self.fails, self.clock, self.well = [], [], 0, clock, well
        self.notifier = Notifier(
            contacts, "mini", lambda: self.well, self.notes.append, self.deliver, lambda: self.clock
        )

    def deliver(self, contact, notice, host):
        if self.fails:
            self.fails -= 1
            raise UndeliveredError("it answered 500")
        self.delivered.append((contact.kind, notice.title))

    async def until(self, fact):
        with anyio.fail_after(20):
            while not fact():  # noqa: ASYNC110
                await anyio.sleep(0.005)

    async def open(self, tasks):
        tasks.start_soon(self.notifier.run)
        await anyio.wait_all_tasks_blocked()


async def test_what_cannot_be_delivered_is_tried_again_and_noted_once(monkeypatch):
    monkeypatch.setattr(notifier, "FIRST_RETRY", 0.01)
    desk = Desk(Contacts((Contact("ntfy"),)))
    async with anyio.create_task_group() as tasks:
        await desk.open(tasks)
        desk.fails = 3
        for title in ("one", "two"):
            desk.notifier.tell(Notice("began", 1, title))
        await desk.until(lambda: len(desk.delivered) == 2)
        tasks.cancel_scope.cancel()
    assert desk.delivered == [("ntfy", "one"), ("ntfy", "two")]
    assert [(note.event, note.fields.get("reason")) for note in desk.notes] == [
        ("notice.failed", "it answered 500"), ("notice.resumed", None),
    ]  # fmt: skip


async def test_a_target_that_hangs_holds_up_no_other_and_no_reload(monkeypatch):
    stuck, go = threading.Event(), threading.Event()
    desk = Desk(Contacts((Contact("slack"), Contact("ntfy"))))
    quick = desk.deliver

    def slow(contact, notice, host):
        if contact.kind == "slack":
            stuck.set()
            go.wait(20)
        quick(contact, notice, host)

    desk.notifier = Notifier(
        Contacts((Contact("slack"), Contact("ntfy"))), "mini", lambda: True, desk.notes.append, slow, lambda: DAY
    )
    async with anyio.create_task_group() as tasks:
        await desk.open(tasks)
        desk.notifier.tell(Notice("began", 1, "one"))
        await desk.until(lambda: stuck.is_set() and desk.delivered == [("ntfy", "one")])
        desk.notifier.adopt(Contacts((Contact("slack"), Contact("macos"))))
        await anyio.wait_all_tasks_blocked()
        desk.notifier.tell(Notice("over", 1, "two"))
        await desk.until(lambda: ("macos", "two") in desk.delivered)
        go.set()
        await desk.until(lambda: ("slack", "two") in desk.delivered)
        tasks.cancel_scope.cancel()
    assert ("slack", "one") in desk.delivered


async def test_what_is_worth_nothing_any_more_is_given_up(monkeypatch):
    monkeypatch.setattr(notifier, "PATIENCE", 0.05)
    monkeypatch.setattr(notifier, "FIRST_RETRY", 0.02)
    desk = Desk(Contacts((Contact("ntfy"),)))
    desk.fails = 1000
    async with anyio.create_task_group() as tasks:
        await desk.open(tasks)
        desk.notifier.tell(Notice("began", 1, "one"))
        await desk.until(lambda: "notice.dropped" in [note.event for note in desk.notes])
        tasks.cancel_scope.cancel()


async def test_in_quiet_hours_nobody_is_told_and_then_once(monkeypatch):
    monkeypatch.setattr(notifier, "LOOK", 0.02)
    desk = Desk(Contacts((Contact("ntfy"), Contact("macos", urgent=True)), quiet=(1320, 420)), clock=NIGHT)
    async with anyio.create_task_group() as tasks:
        await desk.open(tasks)
        desk.notifier.tell(Notice("began", 1, "Nobody is served", grave=True))
        await desk.until(lambda: desk.delivered == [("macos", "Nobody is served")])
        desk.clock = DAY
        await desk.until(lambda: len(desk.delivered) == 2)
        tasks.cancel_scope.cancel()
    assert desk.delivered[1] == ("ntfy", "While it was quiet: 1 incident, 1 of them not over")


async def test_the_heart_beats_while_it_is_well_and_says_once_why_not(box):
    desk = Desk(Contacts(heartbeat=f"{box.url}/ping", interval=0.02))
    async with anyio.create_task_group() as tasks:
        await desk.open(tasks)
        await desk.until(lambda: len(box.came) >= 2)
        desk.well = False
        await anyio.sleep(0.1)
        silent = len(box.came)
        await anyio.sleep(0.1)
        assert len(box.came) == silent
        box.answers, desk.well = [500, 500], True
        await desk.until(lambda: len(box.came) >= silent + 3)
        tasks.cancel_scope.cancel()
    assert {(method, path) for method, path, _, _ in box.came} == {("GET", "/ping")}
    assert [note.event for note in desk.notes] == ["heartbeat.failed"]
