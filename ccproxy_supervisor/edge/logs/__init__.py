"""The four logs: workers' pipes are read whatever the disk does; what cannot be written is dropped and counted."""

from ccproxy_supervisor.edge.logs.capture import Capture
from ccproxy_supervisor.edge.logs.sink import LogSink
from ccproxy_supervisor.edge.logs.tally import LogCounters

__all__ = ["Capture", "LogCounters", "LogSink"]
