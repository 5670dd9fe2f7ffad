#!/usr/bin/env python3
"""A launchctl and the launchd behind it, for one folder of state ($FAKE_LAUNCHD): enough of macOS to install a service.

What it imitates, as documented and as measured:
bootstrap refuses a loaded label and a writable property list with 5, and 125 where nobody is logged in; bootout of an unknown label is 3, everything else
113; bootout comes back at once, SIGTERM goes to the main process only, SIGKILL after ExitTimeOut (5 s unless said);
when the main process is gone its process group gets one SIGTERM; KeepAlive restarts after any exit, but not sooner
than ThrottleInterval whole seconds (10 unless said) after the last start; 78 when the program, the working directory
or the log cannot be had; a bare environment, 256 open files, descriptors 0 to 2.

Sockets of the property list reach the job by LISTEN_FDS: that is the part of launchd that Linux has a name for.
"""

import contextlib
import json
import os
import plistlib
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ.get("FAKE_LAUNCHD", "/nonexistent"))
EX_CONFIG, NULL = 78, subprocess.DEVNULL
LONGEST = 600  # seconds a service may last
BARE_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


def put_on_path(folder: Path) -> dict[str, str]:
    """Make `launchctl` in *folder*, with its state beside it; return the variables that make programs use it."""
    (folder / "bin").mkdir(parents=True)
    (folder / "state").mkdir()
    script = folder / "bin/launchctl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{Path(__file__).resolve()}" "$@"\n')
    script.chmod(0o755)
    return {"FAKE_LAUNCHD": str(folder / "state"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


def shut_down(variables: dict[str, str]) -> None:
    """End every service and its minder, without asking."""
    for file in Path(variables["FAKE_LAUNCHD"]).glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            state = json.loads(file.read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(state["minder"], signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(state["pid"] or 2**22, signal.SIGKILL)


def state_of(label: str) -> dict | None:
    try:
        state = json.loads((STATE / f"{label}.json").read_text())
        os.kill(state["minder"], 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return state


def fail(status: int, words: str) -> int:
    print(words, file=sys.stderr)
    return status


# The verbs


def bootstrap(domain: str, name: str) -> int:
    busy = STATE / "busy"  # a test's wish: be busy so many times
    left = int(busy.read_text()) if busy.exists() else 0
    if left:
        busy.write_text(str(left - 1))
        return fail(37, "Bootstrap failed: 37: Operation already in progress")
    if domain != "system" and (not domain.startswith("gui/") or (STATE / "nobody-logged-in").exists()):
        return fail(125, "Bootstrap failed: 125: Domain does not support specified action")
    file = Path(name)
    if file.suffix != ".plist" or file.stat().st_mode & 0o022 or file.stat().st_uid not in (0, os.getuid()):
        return fail(5, "Bootstrap failed: 5: Input/output error")
    label = plistlib.loads(file.read_bytes())["Label"]
    if state_of(label) is not None or (STATE / f"{label}.disabled").exists():
        return fail(5, "Bootstrap failed: 5: Input/output error")
    command = [sys.executable, "-S", __file__, "--mind", label, name]
    subprocess.Popen(command, stdin=NULL, stdout=NULL, stderr=NULL, start_new_session=True, cwd="/")
    while state_of(label) is None:
        time.sleep(0.01)
    return 0


def bootout(target: str) -> int:
    state = state_of(target.rpartition("/")[2])
    if state is None:
        return fail(3, "Boot-out failed: 3: No such process")
    os.kill(state["minder"], signal.SIGTERM)
    return 0


def show(target: str) -> int:
    domain, _, label = target.rpartition("/")
    if domain.startswith("gui/") and (STATE / "nobody-logged-in").exists():
        return fail(125, "Bad request.\nCould not print domain: 125: Domain does not support specified action")
    state = state_of(label)
    if state is None:
        return fail(113, f'Bad request.\nCould not find service "{label}" in domain for {domain}')
    keys = state["keys"]
    print(
        f"{target} = {{\n\tactive count = 1\n\tpath = {state['file']}\n\ttype = LaunchAgent\n\tstate = {state['state']}\n"
    )
    print(f"\tprogram = {keys['ProgramArguments'][0]}\n\targuments = {{")
    print("".join(f"\t\t{word}\n" for word in keys["ProgramArguments"]) + "\t}\n")
    print(f"\tenvironment = {{\n\t\tXPC_SERVICE_NAME => {label}\n\t}}\n")
    print(f"\tdomain = {domain}\n\tminimum runtime = {keys.get('ThrottleInterval', 10)}")
    print(f"\texit timeout = {keys.get('ExitTimeOut', 5)}\n\truns = {state['runs']}")
    print(f"\tpid = {state['pid']}" if state["pid"] else "", f"\tlast exit code = {state['last_exit']}", sep="\n")
    if state["last_signal"]:
        print(f"\tlast terminating signal = {state['last_signal']}")
    print("\n\tsockets = {\n\t\tListeners = {\n\t\t\tstate = active\n\t\t\tpid = 1\n\t\t}\n\t}\n}")
    return 0


def send(name: str, target: str) -> int:
    state = state_of(target.rpartition("/")[2])
    if state is None or not state["pid"]:
        return fail(113, "Could not find service")
    os.kill(state["pid"], int(name) if name.isdigit() else signal.Signals[f"SIG{name.removeprefix('SIG')}"])
    return 0


def kickstart(*words: str) -> int:
    return send("KILL", words[-1]) if "-k" in words else fail(64, "this fake only restarts")


def able(target: str, disabled: bool) -> int:
    mark = STATE / f"{target.rpartition('/')[2]}.disabled"
    mark.touch() if disabled else mark.unlink(missing_ok=True)
    return 0


# The minder: launchd's eye on one service


class Minder:
    def __init__(self, label: str, file: str) -> None:
        self.label, self.file = label, file
        self.keys = plistlib.loads(Path(file).read_bytes())
        self.state = {"state": "not running", "pid": 0, "runs": 0, "last_exit": "(never exited)", "last_signal": None}
        self.sockets = [self.listen(entry) for entry in self.keys.get("Sockets", {}).values()]
        self.stopping = self.killed_at = None
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, self.give_up)
        signal.alarm(LONGEST)

    @staticmethod
    def listen(entry: dict) -> socket.socket:
        family = socket.AF_INET6 if entry.get("SockFamily") == "IPv6" else socket.AF_INET
        return socket.create_server((entry["SockNodeName"], int(entry["SockServiceName"])), family=family, backlog=128)

    def stop(self, *_: object) -> None:
        if self.stopping is None:
            self.stopping = time.monotonic()
            if self.state["pid"]:
                os.kill(self.state["pid"], signal.SIGTERM)

    def give_up(self, *_: object) -> None:
        """The test is long gone and did not clean up."""
        if self.state["pid"]:
            os.killpg(self.state["pid"], signal.SIGKILL)
        os._exit(1)

    def tell(self, **changed: object) -> None:
        self.state |= changed
        file, partial = STATE / f"{self.label}.json", STATE / f".{self.label}.json"
        partial.write_text(json.dumps(self.state | {"minder": os.getpid(), "file": self.file, "keys": self.keys}))
        partial.replace(file)

    def run(self) -> None:
        wanted = self.keys.get("RunAtLoad") or self.keys.get("KeepAlive") is True
        self.tell()
        while wanted and self.stopping is None:
            begun = time.monotonic()
            status = self.live()
            uptime = time.monotonic() - begun
            by_signal = signal.Signals(-status).name if status < 0 else None
            self.tell(pid=0, last_exit=status if status >= 0 else "(never exited)", last_signal=by_signal)
            wanted = self.keys.get("KeepAlive") is True
            throttle = self.keys.get("ThrottleInterval", 10) - int(uptime)
            self.tell(state="spawn scheduled")
            until = time.monotonic() + max(0, throttle)
            while time.monotonic() < until and self.stopping is None:
                time.sleep(0.02)
        while self.stopping is None:
            time.sleep(0.02)
        (STATE / f"{self.label}.json").unlink()

    def live(self) -> int:
        shim = [sys.executable, "-S", __file__, "--shim", self.file]
        fds = tuple(each.fileno() for each in self.sockets)
        process = subprocess.Popen([*shim, *map(str, fds)], pass_fds=fds, process_group=0, stdin=NULL)
        self.tell(state="running", pid=process.pid, runs=self.state["runs"] + 1)
        if self.stopping is not None:
            process.send_signal(signal.SIGTERM)
        while (status := process.poll()) is None:
            late = self.stopping is not None and time.monotonic() - self.stopping > self.keys.get("ExitTimeOut", 5)
            if late and self.killed_at is None:
                self.killed_at = time.monotonic()
                process.kill()
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        return status


def shim(file: str, *fds: str) -> None:
    """Become the job: what launchd does between fork and exec."""
    keys = plistlib.loads(Path(file).read_bytes())
    home = str(Path.home())
    environment = {"PATH": BARE_PATH, "HOME": home, "USER": "you", "LOGNAME": "you", "SHELL": "/bin/zsh"}
    environment |= {"TMPDIR": "/tmp/", "XPC_SERVICE_NAME": keys["Label"], "XPC_FLAGS": "0x0"}
    environment |= keys.get("EnvironmentVariables", {})
    try:
        limit = keys.get("SoftResourceLimits", {}).get("NumberOfFiles", 256)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        os.chdir(keys.get("WorkingDirectory", "/"))
        os.umask(keys.get("Umask", 0o022))
        opened = [os.open(os.devnull, os.O_RDWR)]
        for key in ("StandardOutPath", "StandardErrorPath"):
            name = keys.get(key, os.devnull)
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            opened.append(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666))
        handed = [os.dup(int(fd)) for fd in fds]
        for place, fd in enumerate([*opened, *handed]):
            os.dup2(fd, place, inheritable=True)
        if fds:
            environment |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
            environment["LISTEN_FDNAMES"] = ":".join(keys["Sockets"])
        os.closerange(3 + len(fds), 256)
        os.execve(keys["ProgramArguments"][0], keys["ProgramArguments"], environment)
    except OSError:
        os._exit(EX_CONFIG)


VERBS = {
    "bootstrap": bootstrap, "bootout": bootout, "print": show, "kill": send, "kickstart": kickstart,
    "enable": lambda target: able(target, disabled=False), "disable": lambda target: able(target, disabled=True),
}  # fmt: skip


def main(*words: str) -> int:
    with contextlib.suppress(OSError), (STATE / "calls").open("a") as calls:
        calls.write(" ".join(words) + "\n")
    match words:
        case ["--mind", label, file]:
            Minder(label, file).run()
            return 0
        case ["--shim", file, *fds]:
            shim(file, *fds)
        case [verb, *rest] if verb in VERBS:
            return VERBS[verb](*rest)
    return fail(64, "Unrecognized subcommand")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
