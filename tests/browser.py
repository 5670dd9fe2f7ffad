"""A headless Chromium, spoken to over a pipe: no driver, no port, no package."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or (MAC if os.path.exists(MAC) else None)
FLAGS = (
    "--headless --remote-debugging-pipe --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --hide-scrollbars --force-color-profile=srgb"
)
COMPLAINTS = ("Runtime.exceptionThrown", "Audits.issueAdded", "Log.entryAdded")
#: Chromium reads orders from descriptor 3 and answers on 4.
WRAP = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"


class Browser:
    """What goes over its pipe."""

    def __init__(self, orders, answers):
        self._orders, self._answers, self._buffer = orders, answers, b""
        self._numbers = itertools.count(1)
        self.events = []

    def ask(self, method, session=None, **params):
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._orders, json.dumps(order).encode() + b"\0")
        while (message := self.next()).get("id") != number:
            self.events.append(message)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def next(self):
        """The next message, an answer or an event."""
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], 120)[0], "the browser does not answer"
            data = os.read(self._answers, 1 << 20)
            assert data, "the browser is gone"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    @contextmanager
    def tab(self):
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.events.clear()
        yield Page(self, self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        self.ask("Target.closeTarget", targetId=target)


class Page:
    """One tab."""

    def __init__(self, browser, session):
        self._browser, self._session = browser, session
        for domain in ("Page", "Runtime", "Log", "Network", "Audits", "Accessibility"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        return self._browser.ask(method, self._session, **params)

    def told(self, method):
        """The events of that name so far."""
        return [event["params"] for event in self._browser.events if event.get("method") == method]

    def run(self, script):
        """Return the value of a JavaScript expression."""
        said = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def open(self, url):
        self.ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def until(self, script, seconds=60):
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"never came true: {script}\n{self.text()}"
            time.sleep(0.02)
        return value

    def wait(self, seconds):
        """Let *seconds* go by for the page, in no time, and then stop its clock; what it fetches is waited for."""
        waited = len(self.told("Emulation.virtualTimeBudgetExpired"))
        self.ask("Emulation.setVirtualTimePolicy", policy="pauseIfNetworkFetchesPending", budget=seconds * 1000)
        while len(self.told("Emulation.virtualTimeBudgetExpired")) == waited:
            self._browser.events.append(self._browser.next())

    def text(self):
        return self.run("document.body.innerText")

    def size(self, width, height, *, phone=False, scale=1):
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def media(self, **features):
        """`prefers_color_scheme="dark"` and the like."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.ask("Emulation.setEmulatedMedia", features=named)

    def press(self, key):
        for kind in ("rawKeyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=ord("\t") if key == "Tab" else 13,
            )

    def picture(self, path, *, whole=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))

    def asked_for(self):
        """The paths it has fetched."""
        urls = [sent["request"]["url"] for sent in self.told("Network.requestWillBeSent")]
        return {urlsplit(url).path for url in urls if url.startswith("http")}

    def complaints(self):
        """Errors, violations and warnings that the browser has for the developer."""
        self.run("0")
        said = [
            call for call in self.told("Runtime.consoleAPICalled") if call["type"] in ("error", "warning", "assert")
        ]
        return said + [each for name in COMPLAINTS for each in self.told(name)]


@contextmanager
def browsing():
    """A browser with an empty profile."""
    profile = tempfile.mkdtemp(prefix="ccproxy-browser-")
    theirs_in, orders = os.pipe()
    answers, theirs_out = os.pipe()
    command = [sys.executable, "-c", WRAP, str(theirs_in), str(theirs_out), CHROMIUM, *FLAGS.split()]
    command += [f"--user-data-dir={profile}", "about:blank"]
    log = os.open(Path(profile, "stderr.txt"), os.O_CREAT | os.O_WRONLY)
    browser = subprocess.Popen(
        command, pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(orders, answers)
    finally:
        os.close(orders)  # the end of its orders ends it
        os.close(answers)
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
        os.close(log)
        shutil.rmtree(profile, ignore_errors=True)
