import pytest

from ccproxy_supervisor.core.contacts import contacts, quiet_at
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.notices import Notice
from ccproxy_supervisor.core.outbox import Outbox
from ccproxy_supervisor.core.settings import parse

BEGAN = Notice("began", 1, "Ollama does not answer")
OVER = Notice("over", 1, "over after 5 min: Ollama does not answer")
DOWN = Notice("began", 2, "Nobody is served", (), grave=True)
UP = Notice("over", 2, "over after 1 min: Nobody is served")


def test_by_day_everything_is_told_at_once():
    outbox = Outbox(urgent=False)
    assert [outbox.put(each, "12:00", quiet=False) for each in (BEGAN, OVER)] == [[BEGAN], [OVER]]
    assert outbox.end() == []


def test_a_quiet_night_is_one_notice_in_the_morning():
    outbox = Outbox(urgent=False)
    for at, notice in (("23:10", BEGAN), ("23:15", OVER), ("04:00", DOWN)):
        assert outbox.put(notice, at, quiet=True) == []

    (digest,) = outbox.end()
    assert (digest.event, digest.title) == ("digest", "While it was quiet: 2 incidents, 1 of them not over")
    assert digest.lines == ("23:10 Ollama does not answer (over after 5 min)", "04:00 Nobody is served (not over)")
    assert outbox.end() == []


def test_what_ends_first_by_day_comes_after_the_night():
    outbox = Outbox(urgent=False)
    outbox.put(DOWN, "04:00", quiet=True)
    assert [each.event for each in outbox.put(UP, "07:01", quiet=False)] == ["digest", "over"]


def test_that_nobody_is_served_wakes_who_wants_to_be_woken_and_lets_them_sleep_again():
    outbox = Outbox(urgent=True)
    assert outbox.put(BEGAN, "01:00", quiet=True) == []
    assert outbox.put(DOWN, "02:00", quiet=True) == [DOWN]
    assert outbox.put(UP, "02:01", quiet=True) == [UP]
    (digest,) = outbox.end()
    assert digest.lines == ("01:00 Ollama does not answer (not over)",)


@pytest.mark.parametrize(
    ("quiet", "minute", "told"),
    [(None, 0, False), ((60, 120), 60, True), ((60, 120), 120, False), ((1320, 420), 1400, True), ((1320, 420), 419, True),
     ((1320, 420), 420, False), ((1320, 420), 720, False)],
)  # fmt: skip
def test_quiet_hours_may_go_over_midnight(quiet, minute, told):
    assert quiet_at(quiet, minute) is told


SETTINGS = """
notify:
  env_file: secrets.env
  quiet: 22:00-07:00
  targets:
    - {kind: slack, url: os.environ/SLACK_URL}
    - {kind: pushover, token: os.environ/TOKEN, user: os.environ/USER_KEY}
    - {kind: command, command: [say, hello], urgent: true}
heartbeat: {url: "https://hc.example/ping", interval: 30s}
"""


def test_what_the_settings_name_is_filled_in_and_hidden():
    secret = {"SLACK_URL": "https://hooks.example/T0/B0/secret", "TOKEN": "token-of-app", "USER_KEY": "key-of-user"}
    told = contacts(parse(SETTINGS), secret)

    slack, pushover, command = told.targets
    assert (slack.url, pushover.token, pushover.user) == (secret["SLACK_URL"], "token-of-app", "key-of-user")
    assert (command.command, command.urgent) == (("say", "hello"), True)
    assert (told.quiet, told.heartbeat, told.interval) == ((1320, 420), "https://hc.example/ping", 30)
    assert set(told.secrets) == {*secret.values(), "https://hc.example/ping"}
    assert not any(value in repr(told) for value in told.secrets)


def test_a_name_that_is_not_in_the_file_is_a_fault():
    with pytest.raises(ConfigError, match=r"notify.targets\[1\].token: names TOKEN, which is not in secrets.env"):
        contacts(parse(SETTINGS), {"SLACK_URL": "https://x", "USER_KEY": "y"})


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("notify: {targets: [{kind: slack}]}", "target 1 (slack) needs url"),
        ("notify: {targets: [{kind: slack, url: 'https://hooks.slack.com/x'}]}", "its url is a secret"),
        ("notify: {targets: [{kind: pushover, token: abc, user: os.environ/U}]}", "is a secret: write os.environ/NAME"),
        ("notify: {targets: [{kind: macos}, {kind: command}]}", "target 2 (command) needs command"),
        ("notify: {targets: [{kind: mail}]}", "notify.targets[0].kind"),
        ("notify: {quiet: 22-7}", "must be two times of the day such as 22:00-07:00"),
        ("heartbeat: {url: 'ftp://x'}", "must be a URL such as"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_remedy(written, fault):
    with pytest.raises(ConfigError) as refused:
        parse(written)
    assert fault in str(refused.value)
