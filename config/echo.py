"""The `echo` model, run by LiteLLM: says the last message back, a word at a time. Needs no network."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from litellm import CustomLLM, ModelResponse

PACE = 0.05  # seconds a word


class Echo(CustomLLM):
    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        answer = kwargs["model_response"]
        answer.choices[0].message.content = said(kwargs["messages"])
        return answer

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for word in said(kwargs["messages"]).split(" "):
            yield chunk(f"{word} ")
            await asyncio.sleep(PACE)
        yield chunk("", is_finished=True, finish_reason="stop")


def chunk(text: str, *, is_finished: bool = False, finish_reason: str = "") -> dict[str, Any]:
    """Shape a piece as LiteLLM's GenericStreamingChunk."""
    end = {"is_finished": is_finished, "finish_reason": finish_reason}
    return {"text": text, "index": 0, "tool_use": None, "usage": None} | end


def said(messages: list[dict[str, Any]]) -> str:
    content = messages[-1]["content"]
    text = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    return f"You said: {text}"


handler = Echo()
