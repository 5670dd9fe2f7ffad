from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.core import units


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500ms", 0.5),
        ("0s", 0.0),
        ("30s", 30.0),
        ("1.5h", 5400.0),
        ("5m", 300.0),
        ("7d", 604800.0),
        ("1h30m", 5400.0),
        ("1d1h1m1s1ms", 90061.001),
        ("0.1s", 0.1),
    ],
)
def test_a_duration_is_read(text, value):
    assert units.seconds(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "s",
        "30 s",
        "30S",
        "-1s",
        "+1s",
        "1e3s",
        "30m1h",
        "1s1s",
        "1,5s",
        ".5s",
        "5.s",
        "1h ",
        "٣s",
        "1s\n",
        "1w",
    ],
)
def test_anything_else_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration; write it like 500ms"):
        units.seconds(text)


def test_a_duration_of_more_than_ten_years_is_refused():
    assert units.seconds("3650d") == 3650 * 86400

    with pytest.raises(ValueError, match="ten years"):
        units.seconds("3650d1ms")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1B", 1),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("50MiB", 50 << 20),
        ("2GiB", 2 << 30),
        ("1GB", 10**9),
        ("1.5GiB", 3 << 29),
    ],
)
def test_a_size_is_read(text, value):
    assert units.size(text) == value


@pytest.mark.parametrize("text", ["", "50", "50 MiB", "50mib", "50M", "-1B", "1e3B", "MiB", "1KiB1B", "1KiB\n"])
def test_anything_else_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size; write it like 50MiB"):
        units.size(text)


def test_a_size_beyond_any_disk_is_refused():
    with pytest.raises(ValueError, match="more than any disk"):
        units.size("99999999TiB")


@given(st.integers(0, 3650 * 86400 * 1000))
def test_every_duration_reads_back_as_it_was_shown(milliseconds):
    value = milliseconds / 1000

    assert units.seconds(units.show_duration(value)) == value


@given(st.integers(0, 1 << 62))
def test_every_size_reads_back_as_it_was_shown(value):
    assert units.size(units.show_size(value)) == value


@given(st.from_regex(units.DURATION.replace("{1,20}", "{1,3}"), fullmatch=True))
def test_what_the_schema_allows_the_reader_takes(text):
    assert units.seconds(text) >= 0


@given(st.text(alphabet="0123456789.dhmsKMGTiB", max_size=12))
def test_what_the_reader_takes_the_schema_allows(text):
    for read, pattern in ((units.seconds, units.DURATION), (units.size, units.SIZE)):
        assert taken(read, text) == bool(re.search(pattern, text))


def taken(read, text):
    try:
        read(text)
    except ValueError as error:
        return "more than" in str(error) or "longer" in str(error)  # well written and too much
    return True


def test_durations_are_shown_as_people_write_them():
    shown = [units.show_duration(value) for value in (0, 0.5, 1.5, 60.0, 5400.0, 604800.0, 0.0005)]

    assert shown == ["0s", "500ms", "1.5s", "1m", "1h30m", "7d", "0.0005s"]
