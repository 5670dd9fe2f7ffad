"""What the doors of the workers say, put together."""

from types import SimpleNamespace

import anyio
import pytest
import trio.testing

from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.doubt import Path
from ccproxy_supervisor.core.model import Traffic
from ccproxy_supervisor.core.wedge import Flow
from ccproxy_supervisor.upstreams import flow

pytestmark = pytest.mark.anyio
MODELS = (
    Model("llama", "ollama/llama", "llama"),
    Model("mixed", "ollama/x", "x"),
    Model("mixed", "openai/x"),
    Model("gpt", "openai/gpt"),
)
PLAN = SimpleNamespace(litellm=SimpleNamespace(models=MODELS))


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def pool(*told):
    now = anyio.current_time()
    paths = [Path(traffic and Traffic(9, *traffic), now) for traffic in told]
    return SimpleNamespace(workers=[SimpleNamespace(path=path) for path in paths])


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ([], None),
        ([None], None),
        ([(0, 0.0)], Flow()),
        ([(3, 40.0)], Flow(3, 45.0)),
        ([(3, 40.0), (1, 2.0)], Flow(4, 7.0)),  # something goes on in one of them
        ([(3, 40.0), (0, 0.0), None], Flow(3, 45.0)),
    ],
)
async def test_completions_wait_as_long_as_none_goes_on_in_any_worker(told, known):
    """What was told five seconds ago is five seconds older by now."""
    workers = pool(*told)
    await anyio.sleep(5)
    assert flow(workers, PLAN, lambda _: (0, 0)) == known


async def test_before_there_are_workers_nothing_is_known():
    assert flow(None, PLAN, lambda _: (0, 0)) is None


async def test_answers_that_break_off_speak_against_ollama_only_where_nobody_else_answers():
    counted = {"llama": (7, 2), "mixed": (100, 100), "gpt": (100, 100)}
    wholes = lambda names: tuple(map(sum, zip(*(counted[name] for name in names), strict=True)))  # noqa: E731
    assert flow(pool((1, 0.0)), PLAN, wholes) == Flow(1, 0.0, 7, 2)
