from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.core.envfile import parse_env
from ccproxy_supervisor.core.faults import ConfigError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("export K=v", "v"),
        ("  K = v  ", "v"),
        ("K=v\r", "v"),
        ("K=", ""),
        ("K=''", ""),
        ("K=a=b", "a=b"),
        ("K=a b # comment", "a b"),
        ("K=a#b", "a#b"),
        ("K=it's", "it's"),
        ("K=pa$$word", "pa$$word"),
        ("K='a # ${b} \\n'", "a # ${b} \\n"),
        ('K="a # b" # comment', "a # b"),
        (r'K="line\nnext \"quoted\" \\ \$"', 'line\nnext "quoted" \\ $'),
        ("\ufeffK=v", "v"),
    ],
)
def test_a_line_is_read_as_shells_read_it(line, value):
    assert parse_env(line, "secrets.env") == {"K": value}


def test_blank_lines_and_comments_are_nothing():
    assert parse_env("\n# K=v\n   \n\t# x\nA=1\n\nB=2", "s") == {"A": "1", "B": "2"}


def test_every_fault_is_told_with_its_line_and_without_a_value():
    text = f"""\
{SECRET}
A="{SECRET}
B='{SECRET}'{SECRET}
C=${{{SECRET}}}
D=1
D={SECRET}
CONFIG_FILE_PATH={SECRET}
9X={SECRET}
E={SECRET}\x00
={SECRET}
"""
    with pytest.raises(ConfigError) as raised:
        parse_env(text, "secrets.env")

    assert str(raised.value).split("\n") == [
        "secrets.env:1: must be KEY=VALUE",
        "secrets.env:2: A: the quotes do not match",
        "secrets.env:3: B: the quotes do not match",
        "secrets.env:4: C: nothing is expanded here; put the value in single quotes to keep its ${",
        "secrets.env:6: D is there twice",
        "secrets.env:7: CONFIG_FILE_PATH: belongs to the supervisor; set proxy.config",
        "secrets.env:8: 9X: is not the name of an environment variable",
        "secrets.env:9: E: must not contain a NUL character",
        "secrets.env:10: must be KEY=VALUE",
    ]


@given(st.text(st.characters(exclude_characters="'\n\x00", exclude_categories=["Cs"])))
def test_what_stands_in_single_quotes_is_taken_as_it_is(value):
    assert parse_env(f"K='{value}'", "s") == {"K": value}


@given(st.text())
def test_any_text_is_variables_or_refused(text):
    try:
        assert isinstance(parse_env(text, "s"), dict)
    except ConfigError as error:
        assert error.faults  # noqa: PT017 - both ends are fine, anything else is not
