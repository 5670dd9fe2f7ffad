import pytest

import real

#: What overlaps when there are several processes (`--dist loadgroup`): a row runs in one of them, the long ones first. A start
#: of the real LiteLLM keeps a core busy for six seconds, and more of them at once than there are cores would starve each other.
ROWS = {
    "litellm-1": (
        "test_litellm_traffic",
        "test_litellm_alone",
        "test_litellm_logs",
        "test_litellm_serving",
        "test_litellm_secrets",
    ),
    "litellm-2": ("test_traefik", "test_litellm_standby", "test_litellm_two"),
    "upgrades": ("test_upgrade", "test_pip_settings"),
    "services": ("test_launchd", "test_selftest", "test_socket_activation", "test_fleet"),
    "watchers": ("test_prometheus", "test_page"),
}


def row(item):
    """A test of the real LiteLLM among others names its own row."""
    named = item.get_closest_marker("xdist_group")
    module = item.path.stem
    return named.args[0] if named else next((row for row, names in ROWS.items() if module in names), module)


def pytest_collection_modifyitems(items):
    order = [*ROWS]
    items.sort(key=lambda item: order.index(row(item)) if row(item) in ROWS else len(order))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(row(item)), append=False)


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
