"""Who asks an ASGI application, and what a worker's tally says of all of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ccproxy_supervisor.launcher.tally import Book


class Visitor:
    """Sends one question and hangs up when `gone` is set; what it hears is in `sent`."""

    def __init__(self, **asked: Any) -> None:
        self.messages = [{"type": "http.request", "body": json.dumps(asked).encode(), "more_body": False}]
        self.gone, self.sent = asyncio.Event(), list[Any]()

    async def receive(self) -> dict[str, Any]:
        if self.messages:
            return self.messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


def results(book: Book) -> dict[str, int]:
    """How many requests became what, and are being answered: the fields that have no bounds."""
    found: dict[str, int] = {}
    for _, numbers in book.read():
        for field, number in numbers.items():
            if " " not in field:
                found[field] = found.get(field, 0) + number
    return found
