"""A client that says when it connects and when it reads: what waits in the kernel's backlog is seen."""

import socket


def request(port):
    """Connect and ask; refused means an exception here."""
    client = socket.create_connection(("127.0.0.1", port), timeout=120)
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return client


def answer(client):
    """Wait for the whole answer; return its status line."""
    with client, client.makefile("rb") as lines:
        return lines.read().partition(b"\r\n")[0]
