"""Log records of this process as JSON lines for the supervisor."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import traceback
from typing import Any

LONGEST = 8000  # characters of a traceback; LiteLLM's routes are frames by the hundred, and the end tells


class LogLines(logging.Handler):
    """One JSON object a record; an unread pipe is the supervisor's business, a closed one is nobody's."""

    def __init__(self, fd: int, worker: int) -> None:
        super().__init__()
        self.fd, self.worker = fd, worker

    def emit(self, record: logging.LogRecord) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{stamp}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        with contextlib.suppress(Exception):  # a log line must never fail a request
            message, trace = record.getMessage(), ""
            if record.exc_info and record.exc_info[0]:
                trace = "".join(traceback.format_exception(*record.exc_info))
            elif message.startswith("Traceback"):  # uvicorn, of a failed start: the reason is its last line
                message, trace = message.rstrip().rpartition("\n")[2], message
            line |= {"logger": record.name, "worker": self.worker, "message": message}
            if trace:
                line["exception"] = trace if len(trace) <= LONGEST else trace[-LONGEST:].partition("\n")[2]
            os.write(self.fd, json.dumps(line, ensure_ascii=False, default=str).encode(errors="replace") + b"\n")

    def adopt_loggers(self) -> None:
        """Take over LiteLLM's handlers with their redaction filters, and uvicorn's records by way of the root."""
        for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router"):
            logger = logging.getLogger(name)
            if level := os.environ.get("LITELLM_LOG"):  # heeded by LiteLLM's own command only
                logger.setLevel(level.upper())
            for old in [h for h in logger.handlers if not isinstance(h, LogLines)]:
                own = LogLines(self.fd, self.worker)
                own.filters, logger.propagate = old.filters, False
                logger.removeHandler(old)
                logger.addHandler(own)
        logging.getLogger("uvicorn").setLevel(logging.INFO)
        if self not in logging.root.handlers:
            logging.root.addHandler(self)
