"""Supervises LiteLLM: holds its port, probes its workers, replaces them without losing a request."""

__version__ = "0.2.0"
