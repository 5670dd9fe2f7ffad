"""What is sent with the status page."""

import base64
import hashlib
import re

from ccproxy_supervisor.edge.page import page


def policy():
    _, headers = page()
    return dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))


def test_only_the_script_and_style_of_the_page_itself_may_run():
    body, _ = page()
    for tag, rule in ((b"style", "style-src"), (b"script", "script-src")):
        (inside,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside).digest()).decode()
        assert policy()[rule] == f"'sha256-{digest}'"


def test_everything_else_is_forbidden():
    rules = policy()
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert {rules[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}


def test_the_page_is_small_and_asks_nobody_else():
    body, headers = page()
    assert len(body) < 25_000
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    links = re.findall(rb"""(?:href|src|url)\s*[=(]\s*["']?([^"'\s)>]+)""", body)
    assert {link for link in links if not link.startswith((b"/", b"data:", b"`data:"))} == set()
    assert b"innerHTML" not in body
