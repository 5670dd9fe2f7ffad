"""The `echo` model, run by LiteLLM: says back what was typed last, a word at a time. Needs no network."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from litellm import CustomLLM, ModelResponse

PACE = 0.05  # seconds a word
NOT_TYPED = "Operator note (not from the user)"  # LiteLLM, of a system message amid the conversation


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
    """The last text that a person typed: without what Claude Code puts beside it, which LiteLLM hands on as the user's too."""
    for message in reversed(messages):
        told = texts(message.get("content"))
        typed = [text for text in told if not text.lstrip().startswith("<system-reminder>")]
        if message.get("role") == "user" and typed and not told[0].startswith(NOT_TYPED):
            return f"You said: {typed[-1]}"
    return "You said nothing."


def texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [str(part["text"]) for part in content or () if isinstance(part, dict) and part.get("text")]


handler = Echo()
