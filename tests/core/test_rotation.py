"""Calendar boundaries, names and what has to go: tables and properties."""

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.core.rotation import (
    Archive,
    archive_name,
    fit,
    leftovers,
    next_boundary,
    parse,
    surplus,
    uncompressed,
)

BERLIN = ZoneInfo("Europe/Berlin")
HAVANA = ZoneInfo("America/Havana")  # its summer time begins at midnight, which therefore does not exist


def at(text, zone=BERLIN, fold=0):
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("rotate", "now", "boundary"),
    [
        ("hourly", "2026-11-23T08:59:59.999999", "2026-11-23T09:00:00"),
        ("hourly", "2026-11-23T09:00:00", "2026-11-23T10:00:00"),
        ("daily", "2026-11-23T00:00:00", "2026-11-24T00:00:00"),
        ("daily", "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        ("weekly", "2026-11-22T23:59:59", "2026-11-23T00:00:00"),
        ("weekly", "2026-11-23T00:00:00", "2026-11-30T00:00:00"),
        ("weekly", "2026-11-25T12:00:00", "2026-11-30T00:00:00"),
    ],
)
def test_the_next_boundary_is_local(rotate, now, boundary):
    assert next_boundary(rotate, at(now), BERLIN) == at(boundary)


def test_never_has_no_boundary():
    assert next_boundary("never", at("2026-11-23T00:00:00"), BERLIN) == math.inf


def test_a_day_of_summer_time_has_its_own_length():
    assert next_boundary("daily", at("2026-03-29T00:00:00"), BERLIN) - at("2026-03-29T00:00:00") == 23 * 3600
    assert next_boundary("daily", at("2026-10-25T00:00:00"), BERLIN) - at("2026-10-25T00:00:00") == 25 * 3600


def test_the_repeated_hour_of_autumn_is_two():
    first, second = at("2026-10-25T02:30:00"), at("2026-10-25T02:30:00", fold=1)
    assert next_boundary("hourly", first, BERLIN) == at("2026-10-25T02:00:00", fold=1) == first + 1800
    assert next_boundary("hourly", second, BERLIN) == at("2026-10-25T03:00:00") == second + 1800


def test_a_midnight_that_does_not_exist_is_the_moment_after_it():
    boundary = next_boundary("daily", at("2026-03-07T12:00:00", HAVANA), HAVANA)
    assert boundary == at("2026-03-08T01:00:00", HAVANA)
    assert next_boundary("daily", boundary, HAVANA) == at("2026-03-09T00:00:00", HAVANA)


@given(
    st.sampled_from([("hourly", 3600), ("daily", 25 * 3600), ("weekly", 7 * 86400 + 3600)]),
    st.floats(0, 4e9),
    st.sampled_from([BERLIN, HAVANA, ZoneInfo("UTC")]),
)
def test_a_boundary_lies_ahead_and_not_too_far(rotate, now, zone):
    name, longest = rotate
    assert now < next_boundary(name, now, zone) <= now + longest


def test_without_a_zone_local_time_counts():
    now = 1_795_392_000.5
    assert next_boundary("daily", now) == next_boundary("daily", now, datetime.fromtimestamp(now).astimezone().tzinfo)


def test_a_rotated_file_is_named_after_the_local_time_of_its_rotation():
    assert archive_name("stdout", at("2026-11-23T00:00:00"), [], BERLIN) == "stdout.log.20261123-000000"


def test_a_second_file_of_the_same_second_is_numbered_after_the_last():
    taken = ["stdout.log.20261123-000000.2.gz", "stdout.log.20261123-000000.1", "stderr.log.20261123-000000.7"]
    assert archive_name("stdout", at("2026-11-23T00:00:00"), taken, BERLIN) == "stdout.log.20261123-000000.3"
    taken = ["stdout.log.20261123-000000.gz"]
    assert archive_name("stdout", at("2026-11-23T00:00:00"), taken, BERLIN) == "stdout.log.20261123-000000.1"


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("stdout.log.20261123-000000", Archive("stdout", "20261123-000000", 0)),
        ("supervisor.log.20261123-000000.12.gz", Archive("supervisor", "20261123-000000", 12)),
        ("stdout.log", None),
        ("stdout.log.20261123-000000.gz.part", None),
        ("stdout.log.old", None),
        ("other.log.20261123-000000", None),
        ("stdout.log.20261123-000000.gz\n", None),
    ],
)
def test_only_our_own_names_are_read(name, archive):
    assert parse(name) == archive


def rotated(log, *days, size=10):
    return {f"{log}.log.202611{day:02}-000000.gz": size for day in days}


NOW = at("2026-11-23T08:00:00")


def test_the_oldest_beyond_keep_go_of_each_log():
    files = {**rotated("stdout", 3, 1, 2), **rotated("stderr", 1, 2), "stdout.log": 10, "stderr.log": 10}
    assert surplus(files, 2, 1000, NOW, BERLIN) == ["stdout.log.20261101-000000.gz"]


def test_the_oldest_of_all_logs_go_until_the_total_fits():
    files = {**rotated("stdout", 2, 4), **rotated("stderr", 1, 3), "stdout.log": 25}
    assert surplus(files, 8, 45, NOW, BERLIN) == ["stderr.log.20261101-000000.gz", "stdout.log.20261102-000000.gz"]


def test_a_current_file_is_never_surplus_and_strangers_do_not_count():
    files = {"stdout.log": 500, "notes.txt": 900, "stdout.log.20261101-000000.gz.part": 900}
    assert surplus(files, 1, 10, NOW, BERLIN) == []
    assert surplus({"notes.txt": 900, **rotated("stdout", 1)}, 1, 10, NOW, BERLIN) == []


def test_numbers_of_one_second_are_compared_as_numbers():
    files = {f"stdout.log.20261101-000000.{number}": 1 for number in (9, 10, 11)}
    assert surplus(files, 2, 100, NOW, BERLIN) == ["stdout.log.20261101-000000.9"]


def test_a_file_and_its_compressed_copy_count_as_one():
    files = {**rotated("stdout", 1, 2), "stdout.log.20261102-000000": 10}
    assert surplus(files, 2, 1000, NOW, BERLIN) == []
    assert set(surplus(files, 1, 15, NOW, BERLIN)) == set(files)


def test_files_from_the_future_go_first_or_a_clock_set_back_would_lose_every_new_one():
    files = rotated("stdout", 20, 21, 28)
    assert surplus(files, 2, 1000, NOW, BERLIN) == ["stdout.log.20261128-000000.gz"]


def test_unfinished_and_twice_present_files_are_leftovers():
    whole = ["stdout.log", "stdout.log.20261101-000000", "stderr.log.20261101-000000.gz", "movie.gz.part"]
    remnants = ["stdout.log.20261103-000000.gz.part", "stdout.log.20261102-000000.1"]
    assert sorted(leftovers([*whole, *remnants, "stdout.log.20261102-000000.1.gz"])) == sorted(remnants)


def test_what_is_not_compressed_yet_is_listed_oldest_first():
    names = [
        "stderr.log.20261102-000000",
        "stdout.log.20261101-000000.10",
        "stdout.log.20261101-000000.9",
        "stdout.log",
    ]
    assert uncompressed([*names, "stdout.log.20261001-000000.gz"]) == [
        "stdout.log.20261101-000000.9",
        "stdout.log.20261101-000000.10",
        "stderr.log.20261102-000000",
    ]


@pytest.mark.parametrize(
    ("room", "fresh", "cut"),
    [
        *[(100, False, 9), (9, False, 9), (8, False, 5), (5, False, 5), (4, False, 2), (1, False, 0), (0, False, 0)],
        *[(-5, False, 0), (1, True, 2), (4, True, 2)],
    ],
)
def test_whole_lines_fill_the_room(room, fresh, cut):
    assert fit(b"a\nbb\nccc\n", 0, 9, room, fresh=fresh) == cut


def test_an_unfinished_line_too_long_for_any_file_is_taken_as_it_is():
    assert fit(b"aaaaaaaa", 0, 8, 4, fresh=True) == 8


@given(
    st.lists(st.binary(max_size=8).map(lambda line: line.replace(b"\n", b"") + b"\n"), min_size=1), st.integers(0, 40)
)
def test_cutting_again_and_again_ends_and_loses_nothing(lines, limit):
    data, start, files = b"".join(lines), 0, []
    while start < len(data):
        cut = fit(data, start, len(data), limit, fresh=True)
        files.append(data[start:cut])
        start = cut
    assert b"".join(files) == data
    assert all(len(file) <= limit or file.count(b"\n") == 1 for file in files)
