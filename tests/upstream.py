"""An upstream that speaks OpenAI's API and counts what it is asked, in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from typing import Any

USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 5}}
WORDS = ("one ", "two ", "three")


class Upstream:
    """*asked* counts requests by model, *whole* those that were answered to the end. What a prompt says is done: `fail` answers
    500, `once` the first time only, `half` breaks off, `slow` takes a while between words, `wait` until `go` is set."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.whole: Counter[str] = Counter()
        self.go = threading.Event()
        self._failed: set[str] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    def __enter__(self) -> Upstream:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._enough.set)
        self._thread.join()

    def model(self, name: str = "up", **more: Any) -> dict[str, Any]:
        """An entry of LiteLLM's model_list."""
        params = {
            "model": f"hosted_vllm/{name}",
            "api_base": f"http://127.0.0.1:{self.port}/v1",
            "api_key": "none",
            **more,
        }
        return {"model_name": name, "litellm_params": params}

    async def _live(self) -> None:
        self._loop, self._enough = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._enough.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(
                    next((line[15:] for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), b"0")
                )
                body = json.loads(await reader.readexactly(size) or b"{}")
                await self._answer(writer, body)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        model, said = body.get("model", ""), json.dumps(body.get("messages", ""))
        if not model:  # LiteLLM looks who is there
            return await _plain(writer, 404, {"error": {"message": "no such page"}})
        self.asked[model] += 1
        while "wait" in said and not self.go.is_set():  # noqa: ASYNC110 - a test's thread sets it
            await asyncio.sleep(0.01)
        if "fail" in said or ("once" in said and said not in self._failed):
            self._failed.add(said)
            return await _plain(writer, 500, {"error": {"message": "told to"}})
        if body.get("stream"):
            await self._stream(writer, model, said)
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await _plain(writer, 200, {"id": "x", "object": "chat.completion", "created": 1, "model": model,
                                       "choices": [choice], "usage": USAGE})  # fmt: skip
        self.whole[model] += 1
        return None

    async def _stream(self, writer: asyncio.StreamWriter, model: str, said: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for word in WORDS:
            await _piece(writer, _chunk(model, [{"index": 0, "delta": {"content": word}, "finish_reason": None}]))
            await asyncio.sleep(0.5 if "slow" in said else 0.01)
            if "half" in said:
                raise EOFError  # a reset could overtake the word
        await _piece(writer, _chunk(model, [{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        await _piece(writer, _chunk(model, [], usage=USAGE))
        await _piece(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _chunk(model: str, choices: list[Any], **more: Any) -> bytes:
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def _piece(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def _plain(writer: asyncio.StreamWriter, status: int, document: Any) -> None:
    data = json.dumps(document).encode()
    writer.write(
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (status, len(data), data)
    )
    await writer.drain()
