"""Real LiteLLM prints as fast as it can while its logs are rotated: by size, by a signal and by a command."""

import gzip
import json
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from load import question
from real import typed

pytestmark = pytest.mark.real
SETTINGS = {"logs": {"max_size": "100KiB", "keep": 1000}}
REQUESTS, LINES = 60, 200


def lines_of(daemon, name):
    """Everything ever written to a log, its rotated files included."""
    files = sorted((daemon.folder / "logs").glob(f"{name}.log*"))
    texts = [gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files]
    assert not [text for text in texts if text and not text.endswith(b"\n")], "a line was cut by a rotation"
    return [line.decode() for text in texts for line in text.splitlines()], len(files)


def test_every_line_is_there_once_however_the_logs_are_rotated(daemon):
    def ask(number):
        body = question(f"print request{number} {LINES}", model="actor")
        return httpx.post(daemon.url + "/v1/messages", json=body, timeout=120).status_code

    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(ask, number) for number in range(REQUESTS)]
        for place, answer in enumerate(answers):
            answer.result()
            if place == REQUESTS // 3:
                daemon.process.send_signal(signal.SIGUSR1)
            if place == REQUESTS // 2:
                assert typed(daemon, "rotate").returncode == 0
    assert [answer.result() for answer in answers] == [200] * REQUESTS
    assert daemon.end() == 0

    written, files = lines_of(daemon, "stdout")
    expected = Counter(f"request{n} {line} {'x' * 60}" for n in range(REQUESTS) for line in range(LINES))
    assert Counter(line for line in written if line.startswith("request")) == expected
    assert files > 8
    asked = [line for line in map(json.loads, lines_of(daemon, "litellm")[0]) if line["logger"] == "uvicorn.access"]
    assert len(asked) == REQUESTS
