"""What went through the workers: taken from their tallies, kept over restarts, and shown."""

from ccproxy_supervisor.edge.traffic.numbers import TrafficNumbers
from ccproxy_supervisor.edge.traffic.tallies import Tallies, usage

__all__ = ["Tallies", "TrafficNumbers", "usage"]
