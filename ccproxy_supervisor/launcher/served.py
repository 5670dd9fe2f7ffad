"""What LiteLLM has come to serve: a deployment that it cannot make it drops, says so in its log, and goes on."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

LONGEST = 300  # characters of a reason


class Dropped(logging.Handler):
    """Hears why LiteLLM's router left a deployment out. The record has no name; the frame that raised has."""

    def __init__(self) -> None:
        super().__init__()
        self.why: dict[str, str] = {}
        logging.getLogger("LiteLLM Router").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        _, error, trace = record.exc_info or (None, None, None)
        if error is None or trace is None or trace.tb_frame.f_code.co_name != "_create_deployment":
            return
        self.why.setdefault(str(trace.tb_frame.f_locals.get("_model_name")), reason(error))


def reason(error: BaseException) -> str:
    """One line, and no value of the config's: it may be a key."""
    try:
        found = error.errors(include_input=False, include_url=False)  # type: ignore[attr-defined]  # pydantic's
        text = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
    except Exception:
        text = str(error).partition("\n")[0]
    return "".join(letter for letter in text if letter.isprintable())[:LONGEST]


def served(dropped: Dropped) -> str | None:
    """What LiteLLM has, as JSON; None where it has no router."""
    server: Any = sys.modules.get("litellm.proxy.proxy_server")
    if not hasattr(server, "llm_router"):
        return None
    return told(getattr(server.llm_router, "model_list", None) or (), dropped)


def told(models: Iterable[Any], dropped: Dropped) -> str:
    """How many deployments of each name there are, and why others are not there, as JSON."""
    counted = Counter(str(model.get("model_name")) for model in models)
    return json.dumps({"deployments": counted, "dropped": dropped.why})
