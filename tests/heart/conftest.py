import pytest
import trio.testing

from stage import Stage


@pytest.fixture
def anyio_backend():
    """Virtual time: when every task sleeps, the clock jumps to the next deadline."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
async def stage(anyio_backend):
    return Stage()
