"""What the public `/health` says: the supervisor's view, as it was last told."""

from __future__ import annotations

import json
import time
from typing import Any

LONGEST = 4 << 20  # bytes; all the names that fit into a config


class Health:
    """Before the first word it is `starting`: nobody accepts for the public then."""

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {"status": "starting", "uptime": 0.0, "models": []}
        self._heard = time.monotonic()

    def hear(self, text: str) -> None:
        """Take what the supervisor says; what is not a JSON object changes nothing."""
        try:
            facts = json.loads(text)
        except ValueError:
            return
        if isinstance(facts, dict):
            self._facts, self._heard = facts, time.monotonic()

    def facts(self) -> dict[str, Any]:
        uptime = self._facts.get("uptime", 0.0) + time.monotonic() - self._heard
        return {**self._facts, "uptime": round(uptime, 1)}

    @property
    def status(self) -> int:
        return 200 if self._facts.get("status") in ("healthy", "degraded") else 503
