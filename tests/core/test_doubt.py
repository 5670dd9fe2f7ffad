"""The first kind of evidence, as tables."""

import pytest

from ccproxy_supervisor.core.answer import Answer, traffic
from ccproxy_supervisor.core.canary import harmless
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.doubt import Path
from ccproxy_supervisor.core.model import Traffic
from ccproxy_supervisor.core.settings import HealthSettings

HEALTH = HealthSettings()


def seen(*looks, every=5.0):
    """The way after *looks*: connections taken so far, and whether others wait."""
    path = Path()
    for number, (taken, queued) in enumerate(looks):
        path = path.after(Traffic(taken, 0, 0.0), 100 + number * every, queued=queued)
    return path


@pytest.mark.parametrize(
    ("looks", "deaf"),
    [
        ([], False),
        ([(7, True)] * 3, False),  # the first look has nothing to compare with
        ([(7, True)] * 4, True),
        ([(7, False)] * 9, False),
        ([(7, True), (8, True), (9, True), (10, True), (11, True)], False),  # busy
        ([(7, True)] * 3 + [(8, True)], False),
        ([(7, True)] * 3 + [(7, False), (7, True), (7, True)], False),
        ([(7, False)] + [(7, True)] * 3, True),
        ([(9, True)] + [(0, True)] * 4, True),
    ],
)
def test_a_worker_is_deaf_when_it_takes_nothing_at_three_looks_while_connections_wait(looks, deaf):
    doubt = seen(*looks).doubt(HEALTH)
    assert (doubt is not None) == deaf
    assert doubt is None or doubt.kind == "deaf"


def test_looks_that_come_fast_prove_nothing_before_two_seconds():
    quick = HealthSettings(interval=0.2)
    assert seen(*[(7, True)] * 10, every=0.2).doubt(quick) is None
    assert seen(*[(7, True)] * 13, every=0.2).doubt(quick) is not None


@pytest.mark.parametrize(
    ("waiting", "limit", "stalled"),
    [(0.0, 120.0, False), (119.9, 120.0, False), (120.0, 120.0, True), (1e6, None, False)],
)
def test_a_worker_is_stalled_when_completions_wait_for_as_long_as_the_setting(waiting, limit, stalled):
    doubt = Path(Traffic(3, 2, waiting)).doubt(HealthSettings(stalled=limit))
    assert (doubt and doubt.kind) == ("stalled" if stalled else None)
    assert not stalled or doubt.detail == "no completion in it has gone on for 120 s, and 2 wait"


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"taken=12 inside=1 waiting=130.5", Traffic(12, 1, 130.5)),
        (b"taken=0 inside=0 waiting=0.0", Traffic(0, 0, 0.0)),
        (b"taken=-1 inside=0 waiting=0.0", None),
        (b"taken=1 inside=0 waiting=nan", None),
        (b"taken=" + b"9" * 400 + b" inside=0 waiting=0.0", None),
        (b"", None),
    ],
)
def test_what_the_launcher_tells_is_read_strictly(header, told):
    assert traffic(Answer(200, b"", 0.0, ((b"date", b"x"), (b"ccproxy-traffic", header)))) == told


def test_a_worker_that_tells_nothing_is_not_judged():
    assert traffic(Answer(200, b"", 0.0)) is None


def test_only_what_costs_nothing_is_asked_and_first_who_needs_nobody():
    near = {"api_base": "http://127.0.0.1:11434"}
    models = [
        Model("llama", "ollama_chat/llama3", "llama3", **near),
        Model("gpt", "openai/gpt-5"),
        Model("echo", "echo/words", custom=True),
        Model("both", "openai/gpt-5"), Model("both", "openai/x", mock=True),
        Model("vectors", "ollama/nomic-embed-text", "nomic-embed-text", **near),
        Model("*", "ollama_chat/*", **near),
        Model("spared", "openai/x", mock=True, spared="model_info.disable_background_health_check"),
        Model("mock", "openai/x", mock=True),
    ]  # fmt: skip
    assert [group[0].name for group in harmless(models)] == ["echo", "mock", "llama"]
