"""Why a change of LiteLLM was not made; nothing was changed then."""

from __future__ import annotations


class InstallError(Exception):
    """It was tried and did not work."""


class RefusedError(InstallError):
    """It was not tried: somebody knows better."""
