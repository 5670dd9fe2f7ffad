"""A home and the world around it, for the checks of `doctor`; a Mac's programs are played by scripts."""

import json
import plistlib
import time

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.litellm import LiteLLMConfig, Model
from ccproxy_supervisor.core.plan import Birth, Plan
from ccproxy_supervisor.core.settings import parse
from ccproxy_supervisor.deploy.doctor.finding import Scene
from ccproxy_supervisor.deploy.launchd import Job, Place, plist
from ccproxy_supervisor.deploy.program import run
from ccproxy_supervisor.edge.home import Home

LABEL = "test.ccproxy"
LLAMA = Model("llama2", "ollama_chat/llama2", ollama="llama2")


class Stage:
    """A home, and a world around it that answers what a test says."""

    def __init__(self, tmp_path, monkeypatch):
        self.tmp = tmp_path
        self.folder = tmp_path / "home"
        self.folder.mkdir(mode=0o700)
        (self.folder / "supervisor.yaml").touch()
        self.bin = tmp_path / "bin"
        self.bin.mkdir()
        monkeypatch.setenv("PATH", str(self.bin))  # none of this machine's own programs
        self.answers, self.environ, self.now = {}, {"HOME": str(tmp_path)}, time.time()
        self.settings, self.models = parse(""), ()

    def program(self, name, out="", status=0):
        (self.bin / name).write_text(f"#!/bin/sh\nprintf '%s\\n' '{out}'\nexit {status}\n")
        (self.bin / name).chmod(0o755)

    def answer(self, url, body, status=200):
        self.answers[url] = Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), 0.1)

    @property
    def places(self):
        return {"agent": Place("gui/501", self.tmp / "agents"), "daemon": Place("system", self.tmp / "daemons")}

    @property
    def job(self):
        return Job(LABEL, "/opt/python", self.folder / "supervisor.yaml", self.settings)

    def installed(self, kind="agent", **changed):
        file = self.places[kind].file(LABEL)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(plistlib.dumps(plist(self.job) | changed))
        file.chmod(0o644)
        return file

    @property
    def scene(self):
        made = Scene(
            Home(self.folder / "supervisor.yaml"), LABEL, "/opt/python", "http://127.0.0.1:8080", self.environ, run,
            lambda url, _: self.answers.get(url, Failure("refused", "Connection refused", 0.0)),
            self.places, lambda: self.now,
        )  # fmt: skip
        plan = Plan(self.settings, LiteLLMConfig(tuple(self.models)), Birth("", "", (), ""))
        made.__dict__["plan"] = plan  # as if read from files that are in order
        return made

    def found(self, check):
        return [(finding.level, finding.title) for finding in check(self.scene)]
