"""What the launcher counts of each request, with an application that does as it is told."""

import asyncio
import json

import pytest

from ccproxy_supervisor.launcher.meter import CLIENTS, Meter, Names, _current, tokens
from ccproxy_supervisor.launcher.tally import Book, Tally

SSE = [(b"content-type", b"text/event-stream")]
CHAT = "/v1/chat/completions"


class Door:
    """A meter whose tally can be read."""

    def __init__(self, folder):
        self.meter = Meter(Tally(str(folder), 1))
        self.meter.names = Names(("llama", "wild/*", "wild/x/*", "*-turbo"))
        (path,) = folder.glob("*.tally")
        self.book, self.seen = Book(str(path)), {}

    def ask(self, *messages, path=CHAT, model="llama", method="POST", headers=(), heard=None, fault=None, during=None):
        """One request whose answer is *messages*; what the client says is *heard*."""

        async def app(scope, receive, send):
            self.seen = scope
            if heard:
                await receive()
            if model is not None:
                scope["parsed_body"] = (("model",), {"model": model})
            for message in messages:
                await send(message)
                if during:
                    during()
            if fault:
                raise fault

        async def receive():
            return {"type": heard}

        async def send(message):
            pass

        scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
        asyncio.run(self.meter.metered(app)(scope, receive, send))

    @property
    def rows(self):
        return {key: {k: n for k, n in numbers.items() if " " not in k} for key, numbers in self.book.read() if numbers}

    def counts(self, name):
        found = {}
        for _, numbers in self.book.read():
            found |= {field: n for field, n in numbers.items() if field.startswith(f"{name} ") and "sum" not in field}
        return sum(found.values())


@pytest.fixture
def door(tmp_path):
    return Door(tmp_path)


def start(status=200, headers=()):
    return {"type": "http.response.start", "status": status, "headers": headers}


def piece(text, more=True):
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def event(**data):
    return piece(f"data: {json.dumps(data)}\n\n")


LAST = piece("", more=False)
EMPTY, WORD = (
    event(choices=[{"delta": {"role": "assistant", "content": ""}}]),
    event(choices=[{"delta": {"content": "a"}}]),
)
DONE = piece("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("messages", "more", "result"),
    [
        ((start(), piece('{"choices": []}', more=False)), {}, "ok"),
        ((start(), piece('{"error": {"message": "x"}}', more=False)), {}, "server_error"),
        ((start(404), piece("{}", more=False)), {}, "client_error"),
        ((start(500), piece("{}", more=False)), {}, "server_error"),
        ((start(499), piece("{}", more=False)), {}, "aborted"),
        ((start(200, SSE), EMPTY, WORD, DONE, LAST), {}, "ok"),
        ((start(200, SSE), EMPTY, WORD, LAST), {}, "broken"),
        ((start(200, SSE), WORD, event(error={"message": "x"}), DONE, LAST), {}, "broken"),
        ((start(200, SSE), WORD), {}, "broken"),
        ((start(200, SSE), WORD), {"heard": "http.disconnect"}, "aborted"),
        ((), {"heard": "http.disconnect"}, "aborted"),
        ((start(200, SSE), piece("event: message_stop\ndata: {}\n\n"), LAST), {"path": "/v1/messages"}, "ok"),
        ((start(200, SSE), piece("event: error\ndata: {}\n\n"), LAST), {"path": "/v1/messages"}, "broken"),
        ((start(200, SSE), piece("event: response.completed\n\n"), LAST), {"path": "/v1/responses"}, "ok"),
        ((start(200, SSE), piece("event: response.failed\n\n"), LAST), {"path": "/v1/responses"}, "broken"),
        ((start(), piece("{}", more=False)), {"path": "/v1/embeddings"}, "ok"),
        ((start(200, SSE), piece("whatever"), LAST), {"path": "/v1/audio/speech"}, "ok"),
    ],
)
def test_each_request_has_one_result(door, messages, more, result):
    door.ask(*messages, **more)
    (numbers,) = door.rows.values()
    assert numbers == {result: 1}


@pytest.mark.parametrize("fault", [RuntimeError(), asyncio.CancelledError()])
@pytest.mark.parametrize(("messages", "result"), [((), "server_error"), ((start(200, SSE), WORD), "broken")])
def test_one_that_fails_or_is_cut_by_us_counts_too(door, fault, messages, result):
    with pytest.raises(type(fault)):
        door.ask(*messages, fault=fault)
    assert list(door.rows.values()) == [{result: 1}]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("llama", "llama"), ("wild/b", "wild/*"), ("wild/x/b", "wild/x/*"), ("gpt-turbo", "*-turbo"), ("wild", "other"),
        ("llama ", "other"), (None, "other"), (7, "other"), (["llama"], "other"), ("*", "other"), ("wild/\n\x1b", "wild/*"),
    ],
)  # fmt: skip
def test_a_model_goes_by_the_name_that_somebody_configured(door, asked, name):
    door.ask(start(), LAST, model=asked)
    assert [key[0] for key in door.rows] == [name]


def test_only_what_asks_for_something_to_be_made_is_counted(door):
    for method in ("GET", "HEAD", "OPTIONS"):
        door.ask(start(), LAST, path="/v1/models", method=method)
    assert door.rows == {}


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (b"eva-2.x_y", "eva-2.x_y"),
        (b"a b", "other"),
        (b"", "other"),
        (b"x" * 65, "other"),
        (b"\xff\n", "other"),
        (None, "direct"),
    ],
)
def test_the_client_is_who_traefik_says_and_litellm_is_not_told(door, said, client):
    others = [(b"host", b"localhost")]
    door.ask(start(), LAST, headers=[*others, *([(b"x-ccproxy-client", said)] if said is not None else [])])
    assert [key[2] for key in door.rows] == [client]
    assert door.seen["headers"] == others


def test_names_that_somebody_makes_up_are_one_after_a_while(door):
    for number in range(3 * CLIENTS):
        door.ask(start(), LAST, headers=[(b"x-ccproxy-client", b"c%d" % number)])
    clients = {key[2]: numbers["ok"] for key, numbers in door.rows.items()}
    assert len(clients) <= CLIENTS
    assert sum(clients.values()) == 3 * CLIENTS


@pytest.mark.parametrize(
    ("path", "empty", "word"),
    [
        (CHAT, EMPTY, WORD),
        (CHAT, EMPTY, event(choices=[{"delta": {"reasoning_content": "hm"}}])),
        (CHAT, EMPTY, event(choices=[{"delta": {"tool_calls": [{"function": {"arguments": "{"}}]}}])),
        ("/v1/messages", piece('data: {"message": {"content": [], "role": "assistant"}}'), event(delta={"text": "a"})),
        ("/v1/messages", event(content_block={"type": "text", "text": ""}), event(delta={"partial_json": "{"})),
        ("/v1/responses", event(response={"text": {"format": {"type": "text"}}}), event(delta="a")),
        ("/v1/completions", event(choices=[{"text": ""}]), event(choices=[{"text": "a"}])),
    ],
)
def test_the_first_token_is_the_first_piece_with_something_in_it(door, path, empty, word):
    tokens = []
    door.ask(start(200, SSE), empty, word, word, path=path, during=lambda: tokens.append(door.counts("first_token")))
    assert tokens == [0, 0, 1, 1]
    assert door.counts("first_byte") == door.counts("duration") == 1


def test_while_it_is_answered_it_is_in_flight_for_its_model_as_soon_as_that_is_known(door):
    seen = []

    def during():
        if not seen:
            seen.append(door.rows)
            _current.get().asks("llama")
        seen.append(door.rows)

    door.ask(piece("x"), start(), LAST, during=during)
    assert seen[0] == {("other", "chat", "direct"): {"in_flight": 1}}
    assert seen[1] == {("llama", "chat", "direct"): {"in_flight": 1}}
    assert door.rows == {("llama", "chat", "direct"): {"ok": 1}}


def test_tokens_count_once_a_call_before_the_end_and_after_it(door):
    requests = []

    def during():
        request = _current.get()
        requests.append(request)
        request.took("a", (10, 2, 5))

    door.ask(start(), LAST, during=during)
    requests[0].took("b", (1, 1, 0))
    requests[0].took("b", (1, 1, 0))
    (numbers,) = door.rows.values()
    assert {name: numbers[name] for name in ("input", "output", "cached", "spoken")} == {
        "input": 11, "output": 3, "cached": 5, "spoken": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2, 0)),
        (
            {"prompt_tokens": 3, "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 1}}}},
            (3, 0, 1),
        ),
        ({"metadata": {"usage_object": {"cache_read_input_tokens": 4, "input_tokens_details": None}}}, (0, 0, 4)),
        ({"prompt_tokens": -1, "completion_tokens": "9", "metadata": None}, (0, 0, 0)),
        ({"prompt_tokens": 1 << 70}, (0, 0, 0)),
        ({}, (0, 0, 0)),
    ],
)
def test_what_litellm_says_of_tokens_is_of_any_shape(said, known):
    assert tokens(said) == known
