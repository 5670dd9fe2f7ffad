"""Ports for programs that open them later, though other tests run at the same time."""

import atexit
import itertools
import socket

FIRST, END, EACH = 10_000, 32_000, 200  # below what any kernel hands out by itself


def _mine() -> range:
    """Take ports that no other test process has: who holds the first one's UDP twin has the range, as long as it lives."""
    for first in range(FIRST, END, EACH):
        guard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            guard.bind(("127.0.0.1", first))
        except OSError:
            guard.close()
        else:
            atexit.register(guard.close)
            return range(first, first + EACH)
    raise OSError(f"cannot take ports: all between {FIRST} and {END} are taken")


_NEXT = itertools.cycle(_mine())


def _free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: who has just left is no obstacle
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    return list(itertools.islice(filter(_free, _NEXT), count))
