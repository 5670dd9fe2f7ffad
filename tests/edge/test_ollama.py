import json
from dataclasses import replace

import anyio
import pytest
import trio.testing

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.litellm import Model
from ccproxy_supervisor.core.model import Note, OllamaStatus, Probed
from ccproxy_supervisor.core.settings import OllamaSettings
from ccproxy_supervisor.core.wedge import Loaded
from ccproxy_supervisor.edge.ollama import OllamaWatch

pytestmark = pytest.mark.anyio
LLAMA, QWEN = Model("llama", "ollama/llama2", "llama2"), Model("qwen", "ollama_chat/Qwen3:8b", "Qwen3:8b")
FAR = Model("far", "ollama/far", "far", "http://mac-2:11434")


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Ollama:
    """Answers from a table; *asked* is what it was asked, and when."""

    def __init__(self, has=("llama2:latest",), loaded=()):
        self.answers = {
            "/api/version": {"version": "0.12.3"},
            "/api/tags": self.list(has),
            "/api/ps": self.list(loaded),
        }
        self.asked, self.takes, self.start = [], 0.0, None

    @staticmethod
    def list(names):
        return {"models": [{"name": name} for name in names]}

    async def fetch(self, url, *, timeout):
        host, _, path = url.partition("/api")
        if self.start is None:
            self.start = anyio.current_time()
        self.asked.append((round(anyio.current_time() - self.start, 3), host, "/api" + path))
        await anyio.sleep(min(self.takes, timeout))
        if self.takes > timeout:
            return Failure("timeout", "no complete answer", timeout)
        answer = self.answers["/api" + path]
        if isinstance(answer, Failure | Answer):
            return answer
        return Answer(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), 0.5)

    def times(self, path):
        return [when for when, _, asked in self.asked if asked == path]


async def watching(ollama, seconds, *models, then=None, grace=lambda: False, **settings):
    """Watch for some virtual seconds, call *then* and watch as long again; returns the watch and its journal."""
    journal = []
    watch = OllamaWatch(ollama.fetch, journal.append, OllamaSettings(**settings), models, grace)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await anyio.sleep(seconds)
        if then:
            then(watch)
            await anyio.sleep(seconds)
        tasks.cancel_scope.cancel()
    return watch, journal


def of(journal, kind):
    return [event for event in journal if isinstance(event, kind)]


async def test_a_well_ollama_is_described_in_full():
    watch, journal = await watching(Ollama(loaded=["llama2:latest"]), 1, LLAMA, QWEN, FAR)
    loaded = (Loaded("llama2:latest", None, None),)
    expected = OllamaStatus(True, "0.12.3", ("llama2:latest",), ("llama2:latest",), ("Qwen3:8b",), running=loaded)
    assert watch.status == expected
    assert of(journal, OllamaStatus) == [expected]
    assert [(p.probe, p.subject, p.verdict.ok, p.verdict.seconds) for p in of(journal, Probed)] == [
        ("ollama", "ollama", True, 1.5)
    ]


async def test_it_is_asked_every_interval_and_its_version_less_often():
    ollama = Ollama()
    await watching(ollama, 61, interval=15.0)
    assert ollama.times("/api/tags") == ollama.times("/api/ps") == [0, 15, 30, 45, 60]
    assert ollama.times("/api/version") == [0, 60]


async def test_a_slow_answer_does_not_shift_the_interval():
    ollama = Ollama()
    ollama.takes = 2.0
    await watching(ollama, 20, interval=15.0)
    assert ollama.times("/api/version") == [0]
    assert ollama.times("/api/tags") == [2, 15]


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        ("/api/version", Failure("refused", "cannot connect", 0.1), "refused"),
        ("/api/version", b"Ollama is running", "garbage"),
        ("/api/version", Answer(404, b"not found", 0.1), "status"),
        ("/api/tags", Failure("too_large", "answered more", 0.1), "too_large"),
        ("/api/tags", {"models": "none"}, "garbage"),
        ("/api/tags", b"[" * 100_000, "garbage"),
        ("/api/ps", Failure("timeout", "no complete answer", 5.0), "timeout"),
        ("/api/ps", {"models": [1]}, "garbage"),
    ],
)
async def test_an_answer_amiss_means_down_and_names_the_question(path, answer, reason):
    ollama = Ollama()
    ollama.answers[path] = answer
    watch, journal = await watching(ollama, 1, LLAMA)
    assert watch.status.up is False
    assert (watch.status.models, watch.status.missing) == ((), ())
    assert watch.status.detail.startswith(f"{path}: ")
    assert [p.verdict.reason for p in of(journal, Probed)] == [reason]


async def test_down_and_up_again_are_noted_once_each():
    ollama, well = Ollama(), {"version": "0.12.3"}
    ollama.answers["/api/version"] = Failure("refused", "cannot connect", 0.0)

    def recover(_):
        ollama.answers["/api/version"] = well

    _, journal = await watching(ollama, 40, then=recover, interval=15.0)
    assert [(note.event, note.level) for note in of(journal, Note)] == [
        ("ollama.lost", "warning"),
        ("ollama.found", "info"),
    ]
    assert len(of(journal, OllamaStatus)) == 6


async def test_missing_models_are_noted_when_they_change():
    ollama = Ollama(has=())

    def pull(_):
        ollama.answers["/api/tags"] = Ollama.list(["llama2:latest"])

    watch, journal = await watching(ollama, 40, LLAMA, QWEN, then=pull, interval=15.0)
    noted = [note.fields["missing"] for note in of(journal, Note) if note.event == "ollama.models_missed"]
    assert noted == [["llama2", "Qwen3:8b"], ["Qwen3:8b"]]
    assert watch.status.missing == ("Qwen3:8b",)


async def test_a_hanging_ollama_is_waited_for_no_longer_than_the_timeout():
    ollama = Ollama()
    ollama.takes = 1000.0
    watch, _ = await watching(ollama, 31, interval=15.0, timeout=5.0)
    assert ollama.times("/api/version") == [0, 15, 30]
    assert watch.status.up is False


async def test_disabled_it_is_not_asked_at_all():
    ollama = Ollama()
    watch, journal = await watching(ollama, 100, LLAMA, enabled=False)
    assert (ollama.asked, journal, watch.status) == ([], [], None)
    assert not await watch.harmless(LLAMA)
    assert ollama.asked == []


async def test_new_settings_and_models_count_at_once():
    ollama = Ollama()

    def move(watch):
        elsewhere = replace(QWEN, api_base="http://localhost:9999")
        watch.adopt(OllamaSettings(url="http://127.0.0.1:9999", interval=4.0), [LLAMA, elsewhere])

    watch, _ = await watching(ollama, 5, LLAMA, then=move)
    assert [(when, host) for when, host, path in ollama.asked if path == "/api/tags"] == [
        (0, "http://127.0.0.1:11434"), (5, "http://127.0.0.1:9999"), (9, "http://127.0.0.1:9999"),
    ]  # fmt: skip
    assert watch.status.missing == ("Qwen3:8b",)


async def test_switched_off_it_forgets_and_switched_on_it_asks_again():
    ollama, seen = Ollama(), []

    def off(watch):
        watch.adopt(OllamaSettings(enabled=False), [])

    watch, _ = await watching(ollama, 5, LLAMA, then=off)
    assert watch.status is None
    seen.extend(ollama.asked)

    def on(watch):
        watch.adopt(OllamaSettings(), [LLAMA])

    watch, _ = await watching(ollama, 5, LLAMA, then=on, enabled=False)
    assert watch.status.up
    assert len(ollama.asked) == len(seen) + 3


async def test_an_answer_to_old_settings_is_dropped():
    ollama = Ollama()
    ollama.takes = 4.0  # three questions: still being asked when the settings change

    def off(watch):
        watch.adopt(OllamaSettings(enabled=False), [])

    watch, journal = await watching(ollama, 10, then=off)
    assert len(ollama.asked) == 3
    assert (journal, watch.status) == ([], None)


async def test_what_is_loaded_is_asked_afresh():
    ollama = Ollama()
    watch, _ = await watching(ollama, 1, LLAMA)
    assert not await watch.harmless(LLAMA)
    ollama.answers["/api/ps"] = Ollama.list(["llama2:latest"])
    assert await watch.harmless(LLAMA)
    assert not await watch.harmless(FAR)
    ollama.answers["/api/ps"] = Failure("refused", "cannot connect", 0.0)
    assert not await watch.harmless(LLAMA)


async def test_a_model_is_harmless_to_ask_where_ollama_has_no_part_in_it():
    watch, _ = await watching(Ollama(), 1)
    assert await watch.harmless(Model("gpt", "openai/gpt"))
    assert await watch.harmless(Model("mock", "ollama/llama2", "llama2", mock=True))


async def test_a_model_of_ours_by_its_address_is_harmless_once_it_is_loaded():
    ollama, compat = Ollama(), Model("compat", "openai/llama2", api_base="http://localhost:11434/v1")
    watch, _ = await watching(ollama, 1)
    assert not await watch.harmless(compat)
    ollama.answers["/api/ps"] = Ollama.list(["llama2:latest"])
    assert await watch.harmless(compat)


@pytest.mark.parametrize("base", [None, "http://127.0.0.1:11434"])
@pytest.mark.parametrize("provider", ["ollama", "openai"])
async def test_which_of_ollamas_models_a_wildcard_would_load_cannot_be_known(provider, base):
    ollama = Ollama()
    ollama.answers["/api/ps"] = Ollama.list(["llama2:latest"])
    watch, _ = await watching(ollama, 1)
    asks_elsewhere = provider == "openai" and base is None
    assert await watch.harmless(Model("any", f"{provider}/*", api_base=base)) is asks_elsewhere


@pytest.mark.parametrize(("grace", "up"), [(True, True), (False, False)])
async def test_silence_after_a_wake_is_a_failed_probe_and_no_verdict(grace, up):
    ollama = Ollama()
    watch, journal = await watching(
        ollama, 20, then=lambda _: setattr(ollama, "takes", 60.0), grace=lambda: grace, interval=15.0
    )

    assert [probed.verdict.ok for probed in of(journal, Probed)] == [True, True, False]
    assert watch.status.up is up
    assert {status.up for status in of(journal, OllamaStatus)} == {True, up}


async def test_an_ollama_that_was_never_seen_is_given_no_grace():
    ollama = Ollama()
    ollama.takes = 60.0
    watch, _ = await watching(ollama, 20, grace=lambda: True)

    assert not watch.status.up


async def test_another_ollama_is_asked_itself_what_it_has_loaded():
    ollama = Ollama()
    ollama.answers["/api/ps"] = Ollama.list(["far:latest"])
    watch, _ = await watching(ollama, 1)
    assert await watch.harmless(FAR)
    assert await watch.harmless(Model("far", "openai/far", api_base="http://mac-2:11434/v1/"))
    assert [host for _, host, path in ollama.asked if path == "/api/ps"][1:] == ["http://mac-2:11434"] * 2
    assert not await watch.harmless(Model("far", "openai/other", api_base="http://mac-2:11434/v1"))
