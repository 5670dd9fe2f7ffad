"""The real pip, and an index on loopback that says, or does not say, when its releases were uploaded."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ccproxy_supervisor.deploy import locks, pip
from ccproxy_supervisor.deploy.errors import InstallError
from wheels import release

NOW = datetime.now(UTC)
AGES = {"2.2.0": 1, "2.1.0": 8, "2.0.0": 30}  # days


@contextmanager
def index(folder, *, told):
    """Serves releases of `litellm` in the JSON form of the index, with their upload times if they are *told*."""
    wheels = {version: release(folder, version) for version in AGES}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body, kind = json.dumps(self.page()).encode(), "application/vnd.pypi.simple.v1+json"
            if self.path.endswith(".whl"):
                body, kind = (folder / self.path.rpartition("/")[2]).read_bytes(), "application/octet-stream"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def page(self):
            files = [
                {
                    "filename": path.name,
                    "url": f"/{path.name}",
                    "hashes": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
                }
                | ({"upload-time": f"{NOW - timedelta(days=AGES[version]):%Y-%m-%dT%H:%M:%SZ}"} if told else {})
                for version, path in wheels.items()
            ]
            return {"meta": {"api-version": "1.1"}, "name": "litellm", "files": files, "versions": list(AGES)}

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def use(tmp_path, monkeypatch):
    """Have pip use an index, and nothing that this machine is set up with."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    with index(tmp_path, told=True) as told, index(tmp_path, told=False) as silent:
        yield lambda speaks: monkeypatch.setenv("PIP_INDEX_URL", told if speaks else silent)


def chosen(before):
    return locks.pins(locks.from_report(pip.resolve("litellm", lambda _: None, before=before)))["litellm"]


def test_the_newest_is_taken_that_has_been_out_for_long_enough(use):
    use(True)
    assert chosen(None) == "2.2.0"
    assert chosen(NOW - timedelta(days=7)) == "2.1.0"
    assert pip.releases("litellm") == ["2.2.0", "2.1.0", "2.0.0"]
    assert pip.releases("litellm", NOW - timedelta(days=7)) == ["2.1.0", "2.0.0"]


def test_an_index_that_does_not_say_when_is_not_guessed_at(use):
    use(False)
    with pytest.raises(InstallError, match=r"does not say when a release was uploaded; name one on purpose, with --to"):
        chosen(NOW - timedelta(days=7))
    assert chosen(None) == "2.2.0"
