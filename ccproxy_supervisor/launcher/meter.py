"""What becomes of each request at the public door, and what LiteLLM says that it took. Of its words nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import sys
import time
from contextvars import ContextVar
from typing import Any

from .tally import MICRO, OTHER, Tally

APIS = {
    "/chat/completions": "chat", "/completions": "completions", "/messages": "messages", "/responses": "responses",
    "/embeddings": "embeddings",
}  # fmt: skip
CLIENT = b"x-ccproxy-client"  # set by Traefik, which lets nobody else do so
NAME = re.compile(rb"[A-Za-z0-9._-]{1,64}")
DIRECT = "direct"  # who came without Traefik
CLIENTS = 32  # told apart by one worker
#: A piece of an answer with something in it, in whatever API: the shapes around it come earlier.
TOKEN = re.compile(rb'"(?:content|reasoning_content|text|thinking|arguments|partial_json|delta)" ?: ?"[^"]')
#: How streams end that came to their end, and what they say instead.
ENDS = {
    "chat": (b"data: [DONE]",), "completions": (b"data: [DONE]",), "messages": (b"message_stop",),
    "responses": (b"response.completed", b"response.incomplete"),
}  # fmt: skip
FAULT = re.compile(
    rb'(?:data: )?\{"error"|(?:event: error\s+data: )?\{"type": ?"error"|event: error|event: response\.failed'
)
RETRIES = "attempted_retries"
SETTLE = 2.0  # seconds for LiteLLM to say of the last requests what they took

_current: ContextVar[Request | None] = ContextVar("ccproxy_request", default=None)


def current() -> Request | None:
    """The request that is being answered here."""
    return _current.get()


def api_of(path: str) -> str:
    """Which of the APIs it is."""
    return next((api for end, api in APIS.items() if path.endswith(end)), OTHER)


class Names:
    """The models that LiteLLM was told of. What clients ask for besides is one: `other`."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._known = {name: name for name in names if "*" not in name}
        patterns = sorted((name for name in names if "*" in name), key=len, reverse=True)
        self._patterns = [
            (re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL), name) for name in patterns
        ]

    def __call__(self, asked: object) -> str:
        name = asked if isinstance(asked, str) else ""
        if found := self._known.get(name):
            return found
        return next((pattern for matched, pattern in self._patterns if matched.fullmatch(name)), OTHER)


class Request:
    """One request under way. Its model is known once LiteLLM has read it."""

    def __init__(self, meter: Meter, scope: Any, receive: Any) -> None:
        self._meter, self._scope, self._receive = meter, scope, receive
        self.api = api_of(scope["path"])
        self.client, self.refused = meter.client(scope), False
        self._model: str | None = None
        self._began = time.monotonic()
        self._token = self._spoke = 0.0  # when the first one came; how long it took from there
        self._status = 0
        self._stream = self._faulty = self._whole = self._left = self._over = False
        self._retries = self._output = 0
        self._calls: set[object] = set()
        self._row = meter.tally.row(OTHER, self.api, self.client)
        self._row.add("in_flight")

    def names(self, asked: object) -> str:
        """The name that *asked* for a model goes by."""
        return self._meter.names(asked)

    async def hear(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._over:
            self._left = True
        return message

    def asks(self, model: object) -> None:
        """LiteLLM has read whom it is for."""
        if self._model is None:
            self._model = self.names(model)
            row = self._meter.tally.row(self._model, self.api, self.client)
            row.add("in_flight")
            self._row.add("in_flight", -1)
            self._row = row

    def says(self, message: Any) -> None:
        """Take in a piece of the answer."""
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            if body := message.get("body"):
                self._look(bytes(body))
            if not message.get("more_body", False):
                self._over = True
                self.end()  # before it goes out: who has an answer was counted

    def _start(self, message: Any) -> None:
        self._read()
        self._row.observe("first_byte", time.monotonic() - self._began)
        self._status = message["status"]
        for name, value in message.get("headers", ()):
            if name.lower() == b"content-type":
                self._stream = value.startswith(b"text/event-stream")

    def _look(self, body: bytes) -> None:
        if self._status >= 400:
            return
        if not self._faulty and FAULT.match(body):
            self._faulty = True
        if not self._stream:
            return
        if not self._token and TOKEN.search(body):
            self._token = time.monotonic()
            self._row.observe("first_token", self._token - self._began)
        if not self._whole and any(end in body for end in ENDS.get(self.api, ())):
            self._whole = True

    def _read(self) -> None:
        """LiteLLM leaves what it has read with the request."""
        with contextlib.suppress(LookupError, TypeError, AttributeError):
            self.asks(self._scope["parsed_body"][1].get("model"))

    def end(self) -> None:
        """It is over, whether or not its answer is."""
        if self._spoke:
            return
        self._read()
        now = time.monotonic()
        self._spoke = max(now - (self._token or self._began), 1e-6)
        row = self._row
        row.observe("duration", now - self._began)
        if self._retries:
            row.add("retried", self._retries)
        row.add(self._result())
        row.add("in_flight", -1)
        if self._output:
            self._speaks(self._output, first=True)

    def waited(self, seconds: float) -> None:
        """It was let in after so long."""
        self._row.observe("queued", seconds)

    def _result(self) -> str:
        if self.refused:
            return "refused"
        gone = self._left or getattr(getattr(self._receive, "__self__", None), "disconnected", False)
        if gone or self._status == 499:
            return "aborted"
        if not self._status or self._status >= 500:
            return "server_error"
        if self._status >= 400:
            return "client_error"
        if not self._stream:
            return "ok" if self._over and not self._faulty else "server_error"
        whole = self._over and not self._faulty and (self._whole or self.api not in ENDS)
        return "ok" if whole else "broken"

    def tries(self, before: int) -> None:
        """LiteLLM asks an upstream, after so many times *before*."""
        self._retries = max(self._retries, before)

    def took(self, call: object, tokens: tuple[int, int, int]) -> None:
        """LiteLLM says of one *call* that it made what it took: tokens in, out and cached."""
        if call in self._calls:
            return
        self._calls.add(call)
        for field, count in zip(("input", "output", "cached"), tokens, strict=True):
            if count:
                self._row.add(field, count)
        if self._spoke and tokens[1]:
            self._speaks(tokens[1], first=not self._output)
        self._output += tokens[1]

    def _speaks(self, tokens: int, *, first: bool) -> None:
        self._row.add("spoken", tokens)
        if first:
            self._row.add("speaking", round(self._spoke * MICRO))


class Meter:
    """Counts into *tally*."""

    def __init__(self, tally: Tally) -> None:
        self.tally, self.names = tally, Names()
        self._clients = {DIRECT, OTHER}

    def client(self, scope: Any) -> str:
        """Who asks, as Traefik says; LiteLLM is not told."""
        said = next((value for name, value in scope["headers"] if name == CLIENT), None)
        if said is None:
            return DIRECT
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != CLIENT]
        name = said.decode() if NAME.fullmatch(said) else OTHER
        if name not in self._clients and len(self._clients) >= CLIENTS:
            return OTHER
        self._clients.add(name)
        return name

    def metered(self, app: Any) -> Any:
        """*app*, whose requests are counted: those that ask for something to be made."""

        async def passed(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["method"] != "POST":
                await app(scope, receive, send)
                return
            request = Request(self, scope, receive)
            _current.set(request)

            async def tell(message: Any) -> None:
                request.says(message)
                await send(message)

            try:
                await app(scope, request.hear, tell)
            finally:
                request.end()

        return passed

    def learn(self) -> None:
        """Hear of LiteLLM what it serves, and from now on what its calls take. Nothing where it is not as we know it."""
        server: Any = sys.modules.get("litellm.proxy.proxy_server")
        router = getattr(server, "llm_router", None)
        with contextlib.suppress(Exception):
            models = [str(model["model_name"]) for model in getattr(router, "model_list", None) or ()]
            self.names = Names((*models, *(getattr(router, "model_group_alias", None) or ())))
            logger = importlib.import_module("litellm.integrations.custom_logger").CustomLogger
            sys.modules["litellm"].callbacks.append(_ear(logger)())

    async def settle(self) -> None:
        """Wait for what LiteLLM has still to say of requests that are over."""
        with contextlib.suppress(Exception):
            worker = importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER
            await asyncio.wait_for(worker.flush(), SETTLE)


def _ear(logger: type) -> type:
    """LiteLLM's *logger*, that tells us. LiteLLM calls it in the context of the request."""

    class Ear(logger):  # type: ignore[misc] # a class that only LiteLLM's interpreter has
        async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> None:
            if request := _current.get():
                request.asks(data.get("model"))

        async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
            if request := _current.get():
                places = (kwargs.get(name) or {} for name in ("metadata", "litellm_metadata"))
                request.tries(max(_count(place.get(RETRIES)) for place in places))

        async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            if request := _current.get():
                request.took(kwargs.get("litellm_call_id"), tokens(kwargs.get("standard_logging_object") or {}))

    return Ear


def tokens(said: Any) -> tuple[int, int, int]:
    """Tokens in, out and cached, from LiteLLM's standard log object."""
    usage = (said.get("metadata") or {}).get("usage_object") or {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = details.get("cached_tokens") or usage.get("cache_read_input_tokens")
    return _count(said.get("prompt_tokens")), _count(said.get("completion_tokens")), _count(cached)


def _count(said: object) -> int:
    return said if isinstance(said, int) and 0 <= said < 1 << 40 else 0
