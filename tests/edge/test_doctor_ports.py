"""A port that launchd holds while the daemon is down is nobody's fault."""

import pytest

from ccproxy_supervisor.deploy.doctor import ports
from ccproxy_supervisor.deploy.doctor.finding import Level
from doctor_stage import Stage

SOCKETS = {"Listeners": [{"SockNodeName": "127.0.0.1", "SockServiceName": "8081"}]}


@pytest.fixture
def stage(tmp_path, monkeypatch):
    return Stage(tmp_path, monkeypatch)


@pytest.mark.parametrize("seen", [ports.Seen(True, 1, "pid 1 (launchd)"), ports.Seen(True, None, "")])
def test_launchd_s_own_socket_is_no_stranger_while_the_daemon_is_down(stage, monkeypatch, seen):
    monkeypatch.setattr(ports, "look", lambda *_: seen)
    assert [finding.level for finding in ports.ports(stage.scene)] == [Level.FAIL, Level.FAIL]

    stage.installed("daemon", Sockets=SOCKETS)
    assert [finding.level for finding in ports.ports(stage.scene)] == [Level.OK, Level.FAIL]


def test_somebody_else_on_launchd_s_port_is_still_a_stranger():
    seen = ports.Seen(True, 4711, "pid 4711 (node)")

    assert ports.judge("proxy", 8081, seen, None, activated=True).level is Level.FAIL
