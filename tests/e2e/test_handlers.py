"""Custom handlers under real LiteLLM: what was checked is what runs, until a reload takes up what was edited."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from real import real

HANDLER = """\
from pathlib import Path
import helper
from litellm import CustomLLM

class Told(CustomLLM):
    async def acompletion(self, *args, **kwargs):
        answer = kwargs["model_response"]
        answer.choices[0].message.content = f"{helper.word()} {Path(__file__).with_name('beside.txt').read_text()}"
        return answer

handler = Told()
"""
HELPER = """\
def word():
    import late
    return late.WORD
"""
LITELLM = """
litellm_settings:
  disable_hf_tokenizer_download: true
  custom_provider_map: [{provider: told, custom_handler: told.handler}]
model_list: [{model_name: told, litellm_params: {model: told/it}}]
"""


@pytest.fixture(scope="module")
def daemon(litellm):
    with real(LITELLM) as house:
        house.write("told.py", HANDLER)
        house.write("helper.py", HELPER)
        house.write("late.py", "WORD = 'first'\n")
        house.write("beside.txt", "beside")
        yield house.start(seconds=300)


def asked(daemon):
    body = {"model": "told", "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(daemon.url + "/v1/chat/completions", json=body, timeout=60)
    return answer.json()["choices"][0]["message"]["content"]


def test_a_handler_finds_its_modules_and_files(daemon):
    assert asked(daemon) == "first beside"


def test_half_an_edit_waits_for_a_reload_also_when_the_worker_dies(daemon):
    daemon.write("told.py", "half (")
    daemon.write("late.py", "WORD = 'never'\n")
    (pid,) = daemon.pids()
    os.kill(pid, signal.SIGKILL)
    daemon.until(lambda _: daemon.pids() not in ([], [pid]), 300)

    assert asked(daemon) == "first beside"

    report = daemon.order("/reload")

    assert report["result"] == "refused"
    assert "told.py:1:6: cannot compile it: '(' was never closed" in report["detail"]
    assert asked(daemon) == "first beside"


def test_an_edited_module_is_taken_up_by_a_reload_and_named(daemon):
    daemon.write("told.py", HANDLER)
    daemon.write("late.py", "WORD = 'second'\n")

    report = daemon.order("/reload", timeout=300)

    assert (report["result"], report["changes"]) == ("rolled", [f"{daemon.folder}/late.py changed"])
    assert asked(daemon) == "second beside"
    assert len(list(Path(daemon.folder, "run", "births").iterdir())) == 1
    assert daemon.order("/reload")["result"] == "unchanged"
