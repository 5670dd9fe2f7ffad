"""One notice to one target. It blocks: for a thread of its own."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ccproxy_supervisor.core.contacts import Contact
from ccproxy_supervisor.core.notices import Notice

if TYPE_CHECKING:
    import httpx

TIMEOUT = 10.0  # seconds
LONGEST = 1000  # characters: Pushover takes 1024
SCRIPT = ("on run argv", "display notification (item 2 of argv) with title (item 1 of argv)", "end run")
SIGNS = {"began": "rotating_light", "over": "white_check_mark", "digest": "memo", "test": "bell"}  # ntfy's and Slack's


class UndeliveredError(Exception):
    """Why a target was not told; without any secret."""


def deliver(contact: Contact, notice: Notice, host: str) -> None:
    """Tell *contact*; raises `UndeliveredError`."""
    title, text = f"ccproxy on {host}: {notice.title}"[:LONGEST], notice.text[:LONGEST]
    match contact.kind:
        case "macos":
            words = [word for line in SCRIPT for word in ("-e", line)]
            _run(["/usr/bin/osascript", *words, title, text or notice.title], {})
        case "command":
            told = {"CCPROXY_EVENT": notice.event, "CCPROXY_TITLE": title, "CCPROXY_TEXT": text}
            _run([*contact.command], told | {"CCPROXY_INCIDENT": str(notice.incident)})
        case _:
            headers, body = _SPELLED[contact.kind](contact, notice, title, text, host)
            post(contact.url, headers, body)


def post(url: str, headers: dict[str, str], body: bytes, method: str = "POST") -> None:
    """Raises `UndeliveredError`."""
    import httpx  # noqa: PLC0415 - 12 MB of memory, for those only who want to be told

    try:
        spelled = [(name.encode(), value.encode()) for name, value in headers.items()]
        answer = _client().request(method, url, headers=spelled, content=body)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:  # its text may repeat the address
        raise UndeliveredError(f"cannot reach it: {type(error).__name__}") from None
    if not answer.is_success:
        raise UndeliveredError(f"it answered {answer.status_code}")


@functools.cache
def _client() -> httpx.Client:
    import httpx  # noqa: PLC0415

    return httpx.Client(timeout=TIMEOUT, follow_redirects=False)


def _run(command: list[str], more: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, env=os.environ | more, check=False
        )
    except subprocess.TimeoutExpired:
        raise UndeliveredError(f"cannot run '{command[0]}': it took longer than {TIMEOUT:g} s") from None
    except (OSError, ValueError) as error:
        raise UndeliveredError(f"cannot run '{command[0]}': {getattr(error, 'strerror', None) or error}") from None
    if done.returncode:
        raise UndeliveredError(f"cannot run '{command[0]}': exit status {done.returncode}")


def _webhook(contact: Contact, notice: Notice, title: str, text: str, host: str) -> tuple[dict[str, str], bytes]:
    facts: dict[str, Any] = {"event": notice.event, "incident": notice.incident, "host": host, "urgent": notice.grave}
    return _bearer(contact) | _JSON, json.dumps(facts | {"title": title, "text": text}).encode()


def _slack(contact: Contact, notice: Notice, title: str, text: str, host: str) -> tuple[dict[str, str], bytes]:
    return _JSON, json.dumps({"text": f":{SIGNS[notice.event]}: *{title}*\n{text}".strip()}).encode()


def _ntfy(contact: Contact, notice: Notice, title: str, text: str, host: str) -> tuple[dict[str, str], bytes]:
    priority = "urgent" if notice.grave else "default"
    told = {"Title": " ".join(title.split()), "Priority": priority, "Tags": SIGNS[notice.event]}
    return _bearer(contact) | told, (text or notice.title).encode()


def _pushover(contact: Contact, notice: Notice, title: str, text: str, host: str) -> tuple[dict[str, str], bytes]:
    told = {"token": contact.token, "user": contact.user, "title": title[:250], "message": text or notice.title}
    form = urlencode(told | {"priority": "1" if notice.grave else "0"}).encode()
    return {"Content-Type": "application/x-www-form-urlencoded"}, form


def _bearer(contact: Contact) -> dict[str, str]:
    return {"Authorization": f"Bearer {contact.token}"} if contact.token else {}


_JSON = {"Content-Type": "application/json"}
_SPELLED = {"webhook": _webhook, "slack": _slack, "ntfy": _ntfy, "pushover": _pushover}
