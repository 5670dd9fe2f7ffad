"""Clients at a steady rate, and slow streams beside them, each on a connection of its own; and what became of each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from daemon import wait_until_gone

PATIENCE = 90.0  # seconds for one answer


@dataclass(frozen=True)
class Outcome:
    """*trouble* is empty for a complete answer with status 200; else `refused`, `cut`, `late` or the status."""

    began: float
    ended: float
    trouble: str = ""
    stream: bool = False


@dataclass(frozen=True)
class Blow:
    """What happened between two moments."""

    before: float
    after: float

    def hit(self, outcome: Any) -> bool:
        """Whether a request was under way."""
        return bool(outcome.began < self.after and outcome.ended > self.before)


def kill(pid: int) -> Blow:
    """It is over when the kernel has closed the connections of the dead: until then a request may still be given to it."""
    before = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    return Blow(before, time.monotonic())


def question(content: str, model: str = "echo", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": content}], **more}


class Load:
    """While the block runs, *rate* requests begin each second and *streams* of *words* are being read; after it all have ended.

    The rate is kept whatever the answers do: who waits is not waited for.
    """

    def __init__(
        self, port: int, *, rate: float = 20.0, streams: int = 0, words: int = 60,
        path: str = "/v1/messages", ask: dict[str, Any] | None = None, key: str | None = None,
    ) -> None:  # fmt: skip
        self.outcomes: list[Outcome] = []
        self._port, self._rate, self._streams = port, rate, streams
        self._ask = spelled(path, ask or question("hi"), key)
        self._words = [f"word{number}" for number in range(words)]
        self._follow = spelled(path, question(" ".join(self._words), stream=True), key)
        self._over = threading.Event()
        self._streaming = threading.Semaphore(0)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        for _ in range(self._streams):
            assert self._streaming.acquire(timeout=PATIENCE), "no stream began"
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()
        self._thread.join()

    def end(self) -> None:
        """Begin nothing more; what has begun goes on."""
        self._over.set()

    @property
    def lost(self) -> list[Outcome]:
        assert self.outcomes, "nobody asked anything"
        return [outcome for outcome in self.outcomes if outcome.trouble]

    @property
    def streamed(self) -> int:
        """Streams that were read to their end."""
        return sum(outcome.stream and not outcome.trouble for outcome in self.outcomes)

    def first_after(self, moment: float) -> Outcome:
        """The first request, no stream, that began after *moment*."""
        return min((o for o in self.outcomes if o.began >= moment and not o.stream), key=lambda o: o.began)

    def longest_gap(self) -> float:
        """The longest time, in seconds, without a good answer to a request."""
        ends = sorted(outcome.ended for outcome in self.outcomes if not outcome.trouble and not outcome.stream)
        return max((after - before for before, after in pairwise(ends)), default=0.0)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._streams):
                tasks.create_task(self._keep_streaming())
            due = time.monotonic()
            while self._rate and not self._over.is_set():
                tasks.create_task(self._request())
                due += 1 / self._rate
                await asyncio.sleep(due - time.monotonic())

    async def _keep_streaming(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            trouble, body = await self._exchange(self._follow, self._streaming)
            if not trouble and said(body).split()[-len(self._words) :] != self._words:
                trouble = "cut"
            self.outcomes.append(Outcome(began, time.monotonic(), trouble, stream=True))

    async def _request(self) -> None:
        began = time.monotonic()
        trouble, _ = await self._exchange(self._ask)
        self.outcomes.append(Outcome(began, time.monotonic(), trouble))

    async def _exchange(self, request: bytes, flowing: threading.Semaphore | None = None) -> tuple[str, bytes]:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(request)
                    data = await reader.read(4096)
                    if flowing:
                        flowing.release()
                    return judged(data + await reader.read())
                finally:
                    writer.close()
        except ConnectionRefusedError:
            return "refused", b""
        except TimeoutError:
            return "late", b""
        except OSError:
            return "cut", b""


def spelled(path: str, body: dict[str, Any], key: str | None) -> bytes:
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(data)}", *([f"Authorization: Bearer {key}"] if key else []), "", ""]
    return "\r\n".join(lines).encode() + data


def judged(data: bytes) -> tuple[str, bytes]:
    """Tell whether an answer, read to the end of its connection, is whole and good."""
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2:
        return "cut", b""
    if words[1] != b"200":
        return words[1].decode(), body
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    whole = len(body) == int(fields[b"content-length"]) if b"content-length" in fields else body.endswith(b"0\r\n\r\n")
    return ("" if whole else "cut"), body


def said(body: bytes | str) -> str:
    """The text of a stream of events, in either dialect."""
    text = body if isinstance(body, str) else body.decode()
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    messages = [event["delta"].get("text", "") for event in events if event.get("type") == "content_block_delta"]
    chunks = [choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ())]
    return "".join(messages + chunks)
