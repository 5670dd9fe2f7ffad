"""Runs inside LiteLLM's own interpreter: one worker with a private socket and a gated public one.

Needs the standard library, uvicorn and the application; imports nothing of ours outside this folder. Python >= 3.10.
The folder may be copied anywhere and is run by its path, see `__main__`.

    CONFIG_FILE_PATH=… python launcher/__main__.py --number 3 --control-fd 5 --public-fd 6 --log-fd 7 --uds run/w3.sock --drain 30

The control descriptor is one end of a socket pair. We are told `care JSON` (how to go on without a supervisor),
`activate SLOT` (accept on the public socket), `drain SECONDS` (stop accepting, finish, leave) and `health JSON` (what the
public `/health` answers); with a word, mostly `visit`, may come a descriptor, a connection to the private door, and is
answered with `met`. We say `ready` (the private door answers and the first request will not be slow), `accepting` and
`draining`. Its end means that the supervisor is dead: we go on as before and wait at our `--door`, for `grace` seconds,
for the next one, to whom we say JSON and pass the public socket and the other ends of our own pipes. It answers `adopt`,
and we repeat what we have said; that socket is the control from then on. If nobody comes, or we were told no care, we drain
and leave. SIGTERM drains too. Exit status: 0 drained, 75 requests were cut at the deadline, 3 start-up failed, 70 event
loop stuck.

uvicorn >= 0.33 is reached through Config, Server.serve(sockets=), started, should_exit, and two overrides:
capture_signals (two servers share a loop and the signals are ours) and shutdown (reads self.servers).
"""
