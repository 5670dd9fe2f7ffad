import json
import os
import stat
import threading
from pathlib import Path

import pytest

from ccproxy_supervisor.deploy.tokens import SECRET, Ledger, TokenError, load, locked, put_text, save

NOW = "2026-11-23T08:00:00Z"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_token_has_256_bits_and_its_own_fingerprint():
    ledger = Ledger().add("alice", NOW).add("bob", NOW)

    alice, bob = ledger.tokens
    assert SECRET.fullmatch(alice.secret)
    assert len(alice.secret) == 43  # 32 bytes in base64
    assert alice.secret != bob.secret
    assert alice.fingerprint != bob.fingerprint
    assert alice.fingerprint not in alice.secret


def test_a_token_never_shows_its_secret():
    token = Ledger().add("alice", NOW).tokens[0]

    assert token.secret not in repr(token)
    assert token.secret not in repr(Ledger((token,)))


@pytest.mark.parametrize("name", ["", "Alice", "a b", "a`b", "a@file", "../x", "-a", "ä", "a" * 33, "a\n", "{{a}}"])
def test_a_name_that_could_mean_something_to_traefik_is_refused(name):
    with pytest.raises(TokenError, match="cannot add token"):
        Ledger().add(name, NOW)


@pytest.mark.parametrize(
    "secret", ["short", "x" * 31, "x" * 31 + "`", "x" * 40 + "|.*", "x" * 257, "{{ env }}" + "x" * 32]
)
def test_a_given_token_that_is_weak_or_not_plain_is_refused(secret):
    with pytest.raises(TokenError) as error:
        Ledger().add("alice", NOW, secret)

    assert secret not in str(error.value)


def test_a_name_is_given_once_and_a_token_too():
    ledger = Ledger().add("alice", NOW, "s" * 40)

    with pytest.raises(TokenError, match="taken; revoke it first"):
        ledger.add("alice", NOW)
    with pytest.raises(TokenError, match="another name has this very token"):
        ledger.add("bob", NOW, "s" * 40)


def test_revoking_takes_one_name_and_an_unknown_one_is_told_the_known():
    ledger = Ledger().add("alice", NOW).add("bob", NOW)

    assert [token.name for token in ledger.revoke("alice").tokens] == ["bob"]
    with pytest.raises(TokenError, match="no such name; known: alice, bob"):
        ledger.revoke("carol")


def test_a_ledger_comes_back_as_it_was_saved(tmp_path):
    ledger = Ledger(output="/x/dynamic.yaml", entry_points=("web", "secure")).add("alice", NOW)

    save(tmp_path / "tokens.json", ledger)

    assert load(tmp_path / "tokens.json") == ledger
    assert mode(tmp_path / "tokens.json") == 0o600


def test_no_file_means_no_tokens(tmp_path):
    assert load(tmp_path / "tokens.json") == Ledger()


UNSAFE = {"tokens": [{"name": "a", "created": NOW, "secret": "`" * 40}], "output": None, "entry_points": ["web"]}


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"tokens": [{"name": "a"}]}', json.dumps(UNSAFE)])
def test_a_damaged_file_is_refused_with_its_path_and_without_its_text(tmp_path, text):
    put_text(tmp_path / "tokens.json", text)

    with pytest.raises(TokenError, match=r"cannot read .*tokens\.json: .*restore or delete it"):
        load(tmp_path / "tokens.json")


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path, bits):
    save(tmp_path / "tokens.json", Ledger())
    (tmp_path / "tokens.json").chmod(bits)

    with pytest.raises(TokenError, match="chmod 600"):
        load(tmp_path / "tokens.json")


def test_a_link_in_its_place_is_not_followed(tmp_path):
    save(tmp_path / "elsewhere.json", Ledger())
    (tmp_path / "tokens.json").symlink_to(tmp_path / "elsewhere.json")

    with pytest.raises(TokenError, match="cannot read"):
        load(tmp_path / "tokens.json")


def test_a_file_is_replaced_whole_and_a_reader_keeps_the_old_one(tmp_path):
    path = tmp_path / "dynamic.yaml"
    put_text(path, "old")
    before = path.stat().st_ino
    with path.open() as reader:
        put_text(path, "new")

        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_ino != before
    assert os.listdir(tmp_path) == ["dynamic.yaml"]


def test_the_umask_does_not_matter(tmp_path):
    old = os.umask(0o000)
    try:
        put_text(tmp_path / "a" / "secret", "x")
        put_text(tmp_path / "a" / "public", "x", 0o644)
    finally:
        os.umask(old)

    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "secret"), mode(tmp_path / "a" / "public")) == (
        0o700,
        0o600,
        0o644,
    )


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    (tmp_path / "folder").mkdir()  # cannot be replaced by a file

    with pytest.raises(TokenError, match="it is as it was"):
        put_text(tmp_path / "folder", "x")

    assert os.listdir(tmp_path) == ["folder"]


def test_two_commands_do_not_change_the_ledger_at_once(tmp_path):
    path, seen = tmp_path / "tokens.json", []

    def other() -> None:
        with locked(path):
            seen.append(load(path).tokens)

    with locked(path):
        thread = threading.Thread(target=other)
        thread.start()
        save(path, Ledger().add("alice", NOW))
    thread.join(5)

    assert [token.name for token in seen[0]] == ["alice"]
