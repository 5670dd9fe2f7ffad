"""The home: the folder, what it says, who could change it, and the interpreter it names."""

from __future__ import annotations

from ccproxy_supervisor.edge.home.custody import everything, program, weaknesses
from ccproxy_supervisor.edge.home.denied import ROTATE, canonical, denied, malicious, packages, shipped
from ccproxy_supervisor.edge.home.home import SETTINGS, Home, locate
from ccproxy_supervisor.edge.home.interpreter import interpreter_fault, litellm_version

__all__ = [
    "ROTATE",
    "SETTINGS",
    "Home",
    "canonical",
    "denied",
    "everything",
    "interpreter_fault",
    "litellm_version",
    "locate",
    "malicious",
    "packages",
    "program",
    "shipped",
    "weaknesses",
]
