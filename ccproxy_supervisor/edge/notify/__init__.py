"""Tells people: webhooks, macOS, a command; and a heartbeat whose silence alarms. Nothing here waits for anybody."""

from ccproxy_supervisor.edge.notify.notifier import Notifier
from ccproxy_supervisor.edge.notify.send import UndeliveredError, deliver, post

__all__ = ["Notifier", "UndeliveredError", "deliver", "post"]
