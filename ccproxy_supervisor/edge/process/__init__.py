"""Real workers: spawned through the launcher in a session of their own, signalled as a group, always reaped."""

from ccproxy_supervisor.edge.process.child import Capture, OsChild, Running, visit
from ccproxy_supervisor.edge.process.spawner import Spawner

__all__ = ["Capture", "OsChild", "Running", "Spawner", "visit"]
