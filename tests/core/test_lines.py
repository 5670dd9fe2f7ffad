"""Which lines are told."""

import json

from ccproxy_supervisor.core.lines import last_lines, spoken, telling


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
