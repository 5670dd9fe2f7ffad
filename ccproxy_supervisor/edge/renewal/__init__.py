"""How this process becomes another image of the program, and goes back."""

from ccproxy_supervisor.edge.renewal.back import Stranded, follow, guarded, settle
from ccproxy_supervisor.edge.renewal.image import STARTED_AS, Arrival, Entry, Handed, RenewalError, arrived, proof
from ccproxy_supervisor.edge.renewal.signals import Signals

__all__ = [
    "STARTED_AS", "Arrival", "Entry", "Handed", "RenewalError", "Signals", "Stranded", "arrived", "follow", "guarded", "proof", "settle",
]  # fmt: skip
