"""Serves apps inside the daemon's event loop: takes no signals, does not tick, bounds every client.

Not uvicorn, which is made to be a program of its own: 4 MB of the daemon's 40, and most of it had to be overridden."""

from ccproxy_supervisor.edge.embedded.serve import serve_tcp, serve_unix

__all__ = ["serve_tcp", "serve_unix"]
