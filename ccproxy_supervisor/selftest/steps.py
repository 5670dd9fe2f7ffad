"""Every step, in the order of the report."""

from __future__ import annotations

from ccproxy_supervisor.selftest import clocks, mac, processes, sockets
from ccproxy_supervisor.selftest.step import Step

STEPS = (
    Step("timers", "timers come when they are due: neither App Nap nor coalescing holds them up", clocks.timers),
    Step("clocks", "two clocks tell sleep apart from a clock that was set", clocks.clocks),
    Step("speed", "a job is not throttled below its caller", clocks.speed),
    Step(
        "processor-timer", "ITIMER_PROF comes early on some Macs, so that nothing hangs on it", clocks.processor_timer
    ),
    Step("birth", "a process is known by its number and the time of its birth", clocks.birth),
    Step("session", "a worker leads a session and a group of its own", processes.session),
    Step("posix-spawn", "posix_spawn makes a session, and passes what it is told to alone", processes.posix_spawn),
    Step("group", "a group is killed whole, though its leader is dead", processes.group),
    Step("exit-watch", "the end of a process that is not our child is told", processes.exit_watch),
    Step("fork", "a fork lives on after its parent has used the network", processes.fork),
    Step("footprint", "memory in use shows in the footprint", processes.footprint),
    Step("descriptors", "the daemon may raise its open files by itself", sockets.descriptors),
    Step("backlog", "clients wait in the backlog while nobody accepts", sockets.backlog),
    Step("inherited-option", "accepted sockets inherit TCP_NODELAY", sockets.inherited_option),
    Step("passing", "descriptors are passed by SCM_RIGHTS and outlive their sender", sockets.passing),
    Step("door", "the kernel tells who is at the other end of a Unix socket", sockets.door),
    Step("news", "a control socket holds the news of a thousand models", sockets.news),
    Step("lock", "a folder can be locked, and is free when its holder is killed", sockets.lock),
    Step("spool", "a mapped file keeps what a killed process wrote", sockets.spool),
    Step("spelling", "one file may have two spellings", sockets.spelling),
    Step("local-network", "a job may talk to the local network", mac.lan, mac=True),
    Step("filevault", "whether somebody must unlock the Mac after a power loss", mac.vault, mac=True),
    Step("background-items", "nobody has forbidden the service under Login Items", mac.background, mac=True),
)
BY_NAME = {step.name: step for step in STEPS}
