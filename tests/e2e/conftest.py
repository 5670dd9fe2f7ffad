import pytest

import real


@pytest.fixture(scope="session")
def litellm():
    """Without LiteLLM the tests that need it fail, with the remedy: a proof that was skipped is none."""
    try:
        return real.interpreter()
    except FileNotFoundError as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(scope="module")
def house(litellm, request):
    """The daemon of a module, with its SETTINGS and its LITELLM config."""
    settings = getattr(request.module, "SETTINGS", {})
    with real.real(getattr(request.module, "LITELLM", None), **settings) as daemon:
        yield daemon


@pytest.fixture
def daemon(house):
    """The same, running and whole, whatever the last test did to it."""
    if house.process is None or house.process.poll() is not None:
        house.start(wait=None)
    house.until(lambda status: whole(status, house.settings["proxy"]), 300)
    return house


def whole(status, proxy):
    """Every worker in its place; a model may be ill."""
    states = sorted(worker["state"] for worker in status["workers"])
    wanted = ["serving"] * proxy.get("workers", 1) + ["standby"] * proxy.get("standby", 0)
    return states == wanted and status["status"] in ("healthy", "degraded")
