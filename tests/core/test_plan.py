from __future__ import annotations

import pytest

from ccproxy_supervisor.core.plan import Plan, Sources, birth, secrets, worker_env
from ccproxy_supervisor.core.settings import Settings

BORN = {
    "python": "/v/bin/python",
    "config": "/h/c.yaml",
    "sources": Sources((("/h/c.yaml", "a"), ("/h/e.py", "e"))),
    "env": {"A": "1"},
    "auth": "open",
    "version": "1",
}


def test_a_worker_inherits_little_and_no_secret_of_the_daemon():
    env = worker_env({"PATH": "/p", "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "x", "PORT": "1"}, "/c.yaml", {}, None)

    assert (env["PATH"], env["HOME"]) == ("/p", "/h")
    assert not {"AWS_SECRET_ACCESS_KEY", "PORT"} & set(env)


def test_an_open_worker_has_no_key_and_is_allowed_to():
    env = worker_env({"LITELLM_MASTER_KEY": "sk-stray"}, "/c.yaml", {}, None)

    assert env["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] == "true"
    assert "LITELLM_MASTER_KEY" not in env
    assert env["CONFIG_FILE_PATH"] == "/c.yaml"


def test_a_worker_with_a_key_is_not_allowed_to_go_without():
    env = worker_env({}, "/c.yaml", {}, "sk-key")

    assert env["LITELLM_MASTER_KEY"] == "sk-key"
    assert "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY" not in env


def test_what_the_operator_sets_wins_over_our_defaults():
    env = worker_env({"PATH": "/p"}, "/c.yaml", {"PATH": "/mine", "LITELLM_MODE": "DEV"}, None)

    assert (env["PATH"], env["LITELLM_MODE"]) == ("/mine", "DEV")
    assert env["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


def test_births_of_the_same_things_are_the_same():
    assert birth(**BORN) == birth(**BORN)


@pytest.mark.parametrize(
    "other",
    [
        {"python": "/w/bin/python"},
        {"config": "/h/d.yaml"},
        {"sources": Sources((("/h/c.yaml", "a"),))},
        {"sources": Sources((("/h/c.yaml", "a"), ("/h/e.py", "e")), (("c.yaml", "a"),))},
        {"env": {"A": "2"}},
        {"env": {"A": "1", "B": ""}},
        {"auth": "master-key"},
        {"version": "2"},
        {"version": None},
    ],
)
def test_births_of_anything_else_differ(other):
    assert birth(**BORN | other).digest != birth(**BORN).digest


def test_a_birth_knows_its_key_and_shows_no_environment():
    born = birth(**BORN | {"env": {"LITELLM_MASTER_KEY": "sk-hunter2"}})

    assert born.key == "sk-hunter2"
    assert birth(**BORN).key is None
    assert "hunter2" not in repr(Plan(Settings(), None, born, (b"hunter2",)))


def test_secrets_are_the_key_the_secret_file_and_what_is_named_like_one():
    found = secrets(
        "sk-master-key",
        {"ANY": "longer-secret", "SHORT": "12345", "PEM": "-----BEGIN\nabcdefgh\n-----END"},
        {"OPENAI_API_KEY": "sk-openai", "REGION": "eu-central", "MY_PASSWORD": "swordfish"},
    )

    assert set(found) == {
        b"sk-master-key",
        b"longer-secret",
        b"-----BEGIN",
        b"abcdefgh",
        b"-----END",
        b"sk-openai",
        b"swordfish",
    }
    assert list(found) == sorted(found, key=lambda secret: (-len(secret), secret))


def test_births_say_what_differs_and_never_a_value():
    old = birth(**BORN)
    sources = Sources((("/h/c.yaml", "b"), ("/h/f.py", "f")))
    new = birth(**BORN | {"sources": sources, "env": {"A": "hunter2"}, "python": "/w/bin/python", "version": "2"})

    assert old.differs(old) == ()
    assert old.differs(new) == (
        "/h/c.yaml changed",
        "/h/f.py changed",
        "/h/e.py changed",
        "LiteLLM's version changed",
        "the interpreter changed",
        "the workers' environment changed",
    )
