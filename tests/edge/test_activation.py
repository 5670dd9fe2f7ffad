"""Sockets handed over by a service manager: taken when they fit, refused by name when not, never leaked to children."""

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys

import pytest

from ccproxy_supervisor.edge.activation import ActivationError, from_launchd, public_sockets

TAKE = """
import json, os, socket, sys
from ccproxy_supervisor.edge.activation import ActivationError, public_sockets
given = [int(fd) for fd in sys.argv[2:]]
high = [os.dup(fd) for fd in given]
for fd in given: os.close(fd)
for place, fd in enumerate(high, 3): os.dup2(fd, place, inheritable=True)
os.environ |= json.loads(sys.argv[1])
os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID", str(os.getpid()))
try:
    taken = public_sockets()
except ActivationError as error:
    sys.exit(str(error))
print(json.dumps({
    "ports": [each.getsockname()[1] for each in taken],
    "nodelay": [bool(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) for each in taken],
    "inheritable": [each.get_inheritable() for each in taken],
    "blocking": [each.getblocking() for each in taken],
    "left": [key for key in os.environ if key.startswith("LISTEN_")],
    "open": [os.path.exists(f"/dev/fd/{3 + place}") for place in range(len(given))],
}))
"""

DARWIN = """
import errno, socket
ask = socket.socket.getsockopt
def getsockopt(self, level, option, *size):
    if (level, option) == (socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")
    return ask(self, level, option, *size)
socket.socket.getsockopt = getsockopt
"""


def handed_over(*sockets, before="", **variables):
    """What a fresh process with *sockets* at 3, 4, … takes, and what it complains about; it runs *before* first."""
    fds = [each.fileno() for each in sockets]
    command = [sys.executable, "-c", before + TAKE, json.dumps(variables), *map(str, fds)]
    done = subprocess.run(command, pass_fds=fds, capture_output=True, text=True, timeout=20, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_process_that_nobody_activated_gets_none():
    assert public_sockets(environ={}) == []


def test_a_listening_socket_is_taken_closed_to_children_and_without_delay(listener):
    port = listener.getsockname()[1]

    assert handed_over(listener, LISTEN_FDS="1") == {
        "ports": [port], "nodelay": [True], "inheritable": [False], "blocking": [False], "left": [], "open": [True],
    }  # fmt: skip


def test_of_several_only_the_one_named_for_us_is_taken_and_the_rest_closed(listener):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = handed_over(other, listener, LISTEN_FDS="2", LISTEN_FDNAMES="metrics:Listeners")

    assert (taken["ports"], taken["open"]) == ([listener.getsockname()[1]], [False, True])


def test_a_unit_that_chose_its_own_name_is_understood(listener):
    assert handed_over(listener, LISTEN_FDS="1", LISTEN_FDNAMES="ccproxy.socket")["ports"]


def test_sockets_meant_for_another_process_are_left_alone_but_the_variables_go(listener):
    taken = handed_over(listener, LISTEN_FDS="1", LISTEN_PID="1")

    assert (taken["ports"], taken["left"], taken["open"]) == ([], [], [True])


def test_a_count_that_is_no_number_is_refused(listener):
    assert handed_over(listener, LISTEN_FDS="one") == "cannot take sockets: LISTEN_FDS is 'one', not a number"


def test_a_socket_that_does_not_listen_is_refused():
    with socket.socket() as idle:
        idle.bind(("127.0.0.1", 0))

        assert handed_over(idle, LISTEN_FDS="1") == "cannot take descriptor 3 as the public socket: it is not listening"


def test_where_the_system_does_not_tell_whether_a_socket_listens_it_is_taken(listener):
    taken = handed_over(listener, before=DARWIN, LISTEN_FDS="1")

    assert taken["ports"] == [listener.getsockname()[1]]


def test_a_socket_that_is_not_tcp_is_refused():
    left, right = socket.socketpair()
    with left, right:
        refusal = handed_over(left, LISTEN_FDS="1")

    assert refusal == "cannot take descriptor 3 as the public socket: it is not a TCP socket"


def test_a_descriptor_that_is_no_socket_is_refused():
    with open(os.devnull) as null:
        refusal = handed_over(null, LISTEN_FDS="1")

    assert refusal.startswith("cannot take descriptor 3 as the public socket: ")


def test_a_descriptor_that_is_not_open_is_refused(listener):
    assert handed_over(listener, LISTEN_FDS="9").startswith("cannot take descriptor ")


class FakeSystem:
    """launch_activate_socket as libSystem has it: through the C calling convention, an array it allocates."""

    def __init__(self, result, *fds):
        array = (ctypes.c_int * max(1, len(fds)))(*fds)
        signature = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.POINTER(ctypes.c_int)), ctypes.POINTER(ctypes.c_size_t)
        )

        def activate(name, out, count):
            self.name = name
            if result == 0:
                out[0] = ctypes.cast(array, ctypes.POINTER(ctypes.c_int))
                count[0] = len(fds)
            return result

        self.name, self.freed = None, 0
        self.launch_activate_socket = signature(activate)

    def free(self, array):
        self.freed += 1


def test_launchd_gives_its_descriptors_and_gets_its_array_back():
    system = FakeSystem(0, 11, 12)

    assert (from_launchd("Listeners", system), system.name, system.freed) == ([11, 12], b"Listeners", 1)


@pytest.mark.parametrize("result", [errno.ESRCH, errno.ENOENT])
def test_not_under_launchd_and_no_sockets_in_the_plist_both_mean_none(result):
    assert from_launchd("Listeners", FakeSystem(result)) == []


def test_asking_launchd_twice_is_an_error():
    with pytest.raises(ActivationError, match="cannot take socket 'Listeners' from launchd: "):
        from_launchd("Listeners", FakeSystem(errno.EALREADY))
