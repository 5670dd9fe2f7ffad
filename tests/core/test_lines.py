"""Secrets hidden, last lines kept."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.core.lines import Secrets, last_lines, spoken, telling

KEY = b"sk-0123456789"


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


def test_the_last_lines_are_counted_over_all_pieces_and_cut():
    pieces = [b"one\ntwo\n", b"\n", b"three", b"f\xffur\r\n" + b"x" * 9 + b"\n"]
    assert last_lines(pieces, 3, 5) == ("three", "f\ufffdur", "xxxxx")
    assert last_lines([], 3, 5) == ()


def record(level, message):
    return json.dumps({"time": "x", "level": level, "logger": "uvicorn.error", "worker": 1, "message": message})


def test_the_error_tells_more_than_what_uvicorn_says_last():
    error = record("error", 'ImportError: no "nowhere"')
    closing = record("error", "Application startup failed. Exiting.")
    assert telling([record("info", "Started"), error, closing]) == 'ImportError: no "nowhere"'
    assert telling(["plain", error[:-20], record("info", "Bye")]) == "ImportErr"
    assert telling([error, "No module named uvicorn"]) == "No module named uvicorn"
    assert telling([closing]) == closing
    assert telling([]) == ""


def test_a_record_is_spoken_as_its_level_and_message_even_when_it_was_cut():
    assert spoken('{"time": "x", "level": "error", "logger": "LiteLLM", "message": "no \\"key\\"", "worker": 1}') == (
        'error: no "key"'
    )
    assert spoken('{"time": "x", "level": "info", "message": "begun and cu') == "info: begun and cu"
    assert spoken("Traceback") == "Traceback"
