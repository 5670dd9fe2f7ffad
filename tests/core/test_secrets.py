"""Secrets hidden, however they are written, wherever a line is cut."""

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ccproxy_supervisor.core.secrets import HIDDEN, Secrets

KEY = b"sk-0123456789"
NASTY = [
    "sk-ant-api03-Zm9vYmFyYmF6cXV4",
    "p&ss \"w<o>rd's",
    "päss/wörd+%=",
    "back\\slash\\n",
    "日本語のパスワード",
    "a b&c=d/e?f#g",
]


def test_every_occurrence_is_hidden():
    assert Secrets().plus([KEY]).mask(b"a " + KEY + KEY + b" b\n") == b"a ****** b\n"


def test_the_longer_of_two_secrets_is_hidden_first():
    assert Secrets().plus([KEY]).plus([KEY + b"-more"]).mask(KEY + b"-more\n") == b"***\n"


def test_a_short_value_is_no_secret():
    assert Secrets().plus([b"", b"true", b"INFO"]).values == ()


def test_each_line_of_a_value_is_a_secret():
    hidden = Secrets().plus([b"-----BEGIN KEY-----\nabcdefgh\r\n"]).mask(b"-----BEGIN KEY----- and abcdefgh\n")
    assert hidden == b"*** and ***\n"


def test_a_secret_is_also_hidden_as_json_writes_it():
    secret = 'quo"te\\päss'
    text = json.dumps({"key": secret}).encode()
    assert Secrets().plus([secret.encode()]).mask(text) == b'{"key": "***"}'


def test_whether_a_secret_is_within_looks_no_further_than_asked():
    secrets = Secrets().plus([KEY])
    assert secrets.within(b"a" + KEY, 1 + len(KEY))
    assert not secrets.within(bytearray(b"a" + KEY), len(KEY))
    assert not Secrets().within(KEY, len(KEY))


def test_the_beginning_of_a_secret_is_recognised():
    secrets = Secrets().plus([KEY, b"0123-other"])
    assert secrets.begun(b"key=sk-0123") == len(b"sk-0123")
    assert secrets.begun(b"key=" + KEY) == 0
    assert Secrets().begun(b"sk-") == 0


@given(st.binary(max_size=30), st.integers(0, 60))
def test_a_secret_cut_anywhere_is_never_shown(before, cut):
    secrets = Secrets().plus([KEY])
    data = before + KEY + b"\n"
    head = secrets.mask(data[:cut])
    begun = secrets.begun(head)
    shown = head[: len(head) - begun] + secrets.mask(head[len(head) - begun :] + data[cut:])
    assert KEY not in shown
    assert shown == secrets.mask(data)


def json_of_go(text):
    return json.dumps(text).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def basic(text, name="user"):
    return base64.b64encode(f"{name}:{text}".encode()).decode()


WRITTEN = {
    "plain": str,
    "json": json.dumps,
    "json, not ASCII": lambda text: json.dumps(text, ensure_ascii=False),
    "json of Go": json_of_go,
    "json in json": lambda text: json.dumps(json.dumps({"key": text})),
    "json in json, not ASCII": lambda text: json.dumps(json.dumps([text], ensure_ascii=False), ensure_ascii=False),
    "repr": repr,
    "repr of a dict": lambda text: repr({"api_key": text}),
    "url": lambda text: "https://x/?key=" + quote(text, safe=""),
    "url, small": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
    "path": quote,
    "form": quote_plus,
    "javascript": lambda text: quote(text, safe="!'()*~"),
    "html": html.escape,
    "html of Go": lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    "html text": lambda text: html.escape(text, quote=False),
    "basic": basic,
    "basic, 1": lambda text: basic(text, "user1"),
    "basic, 2": lambda text: basic(text, "user12"),
    "basic without a name": lambda text: basic(text, ""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(b"x" + text.encode()).decode(),
    "base64 in a url": lambda text: quote(basic(text), safe=""),
}


def shows(said, secret):
    """Whether something in *said* is, or decodes to, six characters of *secret* in a row."""
    decoded = [said]
    for run in re.findall(rb"[A-Za-z0-9+/_-]{6,}", said.replace(b"%2B", b"+").replace(b"%2F", b"/")):
        standard = run.replace(b"-", b"+").replace(b"_", b"/")
        decoded += [base64.b64decode(standard[at:] + b"A" * (-len(standard[at:]) % 4)) for at in range(4)]
    parts = {secret.encode()[at : at + 6] for at in range(len(secret.encode()) - 5)}
    return any(part in each for part in parts for each in decoded)


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("secret", NASTY)
def test_a_secret_is_hidden_however_it_is_written(secret, way):
    said = f"before {WRITTEN[way](secret)} after\n".encode()
    masked = Secrets().plus([secret.encode()]).mask(said)

    assert HIDDEN in masked
    assert not shows(masked, secret)
    assert masked.startswith(b"before ")
    assert masked.endswith(b" after\n")


@pytest.mark.parametrize("way", WRITTEN)
@settings(max_examples=30)
@given(cut=st.integers(0, 200))
def test_no_form_is_shown_though_its_line_is_cut(way, cut):
    secrets = Secrets().plus([secret.encode() for secret in NASTY])
    for secret in NASTY:
        data = f"before {WRITTEN[way](secret)} after\n".encode()
        head = secrets.mask(data[:cut])
        begun = secrets.begun(head)
        shown = head[: len(head) - begun] + secrets.mask(head[len(head) - begun :] + data[cut:])
        assert not shows(shown, secret)


MANY = Secrets().plus([f"{number}-{'k3y' * 5}-{number * 7919}-{'S3cret'}".encode() for number in range(20)])


@given(st.binary(max_size=200), st.sampled_from(MANY.values), st.binary(max_size=100), st.integers(0, 400))
@example(b"", MANY.values[0], b"", 0)
def test_many_secrets_are_found_by_their_words_wherever_they_stand(before, value, after, end):
    data = bytearray(before + value + after)
    end = min(end, len(data))

    assert MANY.within(data, end) is any(each in data[:end] for each in MANY.values)
    assert MANY.within(data, len(data))


def test_what_is_known_already_costs_nothing():
    secrets = Secrets().plus([KEY])
    assert secrets.plus([KEY]) is secrets
