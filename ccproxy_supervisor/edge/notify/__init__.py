"""Tells people: webhooks, macOS, a command; and a heartbeat whose silence alarms. Nothing here waits for anybody."""

from ccproxy_supervisor.edge.notify.office import Office
from ccproxy_supervisor.edge.notify.send import UndeliveredError, deliver, post

__all__ = ["Office", "UndeliveredError", "deliver", "post"]
