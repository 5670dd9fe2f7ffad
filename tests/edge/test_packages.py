"""`proxy.packages`: what LiteLLM's environment has besides LiteLLM, and how it gets there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from ccproxy_supervisor.deploy import locks, maintenance
from ccproxy_supervisor.deploy.errors import InstallError
from world import OLD, World, lock_of

EXTRA = "extra==3.1 --hash=sha256:11"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "shipped", lambda version: lock_of(version) if version == OLD else None)
    place = World(tmp_path)
    place.upgrade(OLD)
    place.did.clear()
    return place


def asks(world, *packages):
    """Let the operator want *packages*; pip finds them at 3.1, and pins what it is told to."""
    hands = world.upgrader._hands
    asked = []

    def resolve(requirement, _before, wanted, pinned):
        asked.append((requirement, tuple(wanted), dict(pinned)))
        return "# for here\n" + lock_of(requirement.partition("==")[2]) + (EXTRA + "\n" if wanted else "")

    object.__setattr__(hands, "resolve", resolve)
    world.upgrader._wanted = packages
    return asked


def test_a_lock_keeps_what_is_shipped_and_adds_what_is_wanted():
    shipped = "a==1 \\\n    --hash=sha256:aa\nb==2 ; sys_platform == 'win32' --hash=sha256:bb\n"
    lock = locks.added(shipped, ("extra>=3", "other"), "# for x\na==1 --hash=sha256:zz\nextra==3.1 --hash=sha256:11\n")

    assert locks.packages(lock) == ("extra>=3", "other")
    assert locks.pins(lock) == {"a": "1", "extra": "3.1"}
    assert "sha256:zz" not in lock
    assert locks.fits(lock)
    assert not locks.fits(lock.replace("# for ", "# for another "))
    assert locks.packages(shipped) == ()


def test_wanted_packages_make_an_environment_of_their_own_beside_the_old_one(world):
    asked = asks(world, "extra")
    target = world.upgrader.find(OLD)
    world.upgrader.upgrade(target)
    current = world.environments.current

    assert asked == [(f"litellm[proxy]=={OLD}", ("extra",), {"litellm": OLD})]
    assert (current.version, current.packages) == (OLD, ("extra",))
    assert world.versions == (f"{OLD}-2", OLD)
    assert world.did[-2:] == [f"prove {OLD}-2", "roll"]

    world.upgrader.rollback()

    assert world.environments.current.packages == ()


def test_without_the_packages_again_the_old_environment_is_used_again(world):
    asks(world, "extra")
    world.upgrader.upgrade(world.upgrader.find(OLD))
    asks(world)
    world.did.clear()
    world.upgrader.upgrade(world.upgrader.find(OLD))

    assert world.environments.current.path.name == OLD
    assert "fill" not in world.did


def test_a_repair_brings_the_packages_back(world):
    asks(world, "extra")
    world.upgrader.upgrade(world.upgrader.find(OLD))
    damaged = next(world.environments.current.path.glob("lib/*/site-packages/litellm/__init__.py"))
    damaged.write_text("# damaged")
    asked = asks(world)
    with suppress(InstallError):  # the stand-in for pip puts only LiteLLM there
        world.upgrader.repair()

    assert world.environments.current.packages == ("extra",)
    assert asked == [], "its own lock is good for this Python"


def test_without_a_network_nothing_changes_and_it_is_said(world):
    def resolve(*_):
        raise InstallError("cannot resolve litellm, extra: the package index does not answer; is there a network?")

    asks(world, "extra")
    object.__setattr__(world.upgrader._hands, "resolve", resolve)
    with pytest.raises(InstallError, match="is there a network"):
        world.upgrader.find(OLD)

    assert world.environments.current.path.name == OLD


def test_pip_is_asked_with_the_packages_and_the_pins(monkeypatch):
    seen = []

    def run(words, what, *_):
        seen.append((words, what, Path(words[words.index("--constraint") + 1]).read_text()))
        raise InstallError("not here")

    monkeypatch.setattr(maintenance.pip, "_run", run)
    with pytest.raises(InstallError, match="not here"):
        maintenance.pip.resolve("litellm==1", print, (), None, ("extra>=3",), {"a": "1"})

    ((words, what, pinned),) = seen
    assert words[-2:] == ("litellm==1", "extra>=3")
    assert (what, pinned) == ("resolve litellm==1, extra>=3", "a==1\n")
