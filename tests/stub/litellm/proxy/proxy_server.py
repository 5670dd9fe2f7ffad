"""Stands in for LiteLLM where speed demands it: started by the real launcher, told by requests how to misbehave.

Environment: STUB_START_DELAY seconds before it is up, STUB_FAIL exit status instead of a start, STUB_BALLAST MiB,
STUB_UPSTREAM_ERROR what the models' provider says to a check.
"""

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from urllib.parse import parse_qs

if "STUB_FAIL" in os.environ:
    print("stub: told to fail", file=sys.stderr)
    sys.exit(int(os.environ["STUB_FAIL"]))
if "STUB_START_DELAY" in os.environ:
    print("stub: told to be slow", flush=True)
    time.sleep(float(os.environ["STUB_START_DELAY"]))
BALLAST = bytearray(int(os.environ.get("STUB_BALLAST", "0")) << 20)
SICK = False
MODELS = []
master_key = os.environ.get("LITELLM_MASTER_KEY")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path = scope["path"]
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    body = await read(receive)
    match path:
        case "/health/liveliness" | "/health/readiness":
            return await answer(send, 500 if SICK else 200, b'"I\'m alive!"')
        case "/health":
            return await answer(send, 200, json.dumps(report(query.get("model"))).encode())
        case "/v1/models":
            return await answer(send, 200, json.dumps({"data": [{"id": name} for name in MODELS]}).encode())
        case "/v1/chat/completions" | "/v1/messages":
            asked = json.loads(body or b"{}")
            scope["parsed_body"] = (tuple(asked), asked)  # as LiteLLM leaves it
            await asyncio.sleep(float(asked.get("seconds", 0)))
            while "until" in asked and not os.path.exists(asked["until"]):  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
            model = asked.get("model")
            told = json.dumps({"pid": os.getpid(), "choices": [{}]}).encode()
            if asked.get("stream"):
                return await stream(send, 3, 0.0, "", b'{"choices":[{"delta":{"content":"word"}}]}')
            return await answer(send, asked.get("status", 200 if model == "echo" else 400), told)
        case "/stream":
            return await stream(send, int(query["chunks"]), float(query.get("every", "0.05")), query.get("until", ""))
        case "/print":
            line = query["line"] + "x" * int(query.get("more", "0"))
            print(line, flush=True, file=sys.stderr if "err" in query else sys.stdout)
        case "/burn":
            await asyncio.to_thread(burn, float(query["seconds"]))
        case "/leave":
            daemon = (
                "import os, sys, time; os.setsid(); print(os.getpid(), file=open(sys.argv[1], 'w')); time.sleep(300)"
            )
            os.system(f'"{sys.executable}" -c "{daemon}" "{query["file"]}" &')  # closes nothing, as subprocess does
        case "/env":
            return await answer(send, 200, json.dumps(dict(os.environ)).encode())
        case "/grow":
            for _ in range(int(query["mib"])):
                BALLAST.extend(b"x" * (1 << 20))
                await asyncio.sleep(0)  # probes are answered meanwhile
        case _:
            misbehave(path, query)
    await answer(send, 200, str(os.getpid()).encode())


def report(model):
    if error := os.environ.get("STUB_UPSTREAM_ERROR"):
        return {"healthy_endpoints": [], "unhealthy_endpoints": [{"model": model, "error": error}]}
    return {"healthy_endpoints": [{"model": model}], "unhealthy_endpoints": []}


def misbehave(path, query):
    global SICK
    match path:
        case "/block":
            time.sleep(float(query["seconds"]))
        case "/sick":
            SICK = True
        case "/die":
            os._exit(int(query.get("status", "7")))


def burn(seconds):
    """Keep a core busy, and the interpreter's lock as often as it is given."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


async def lifespan(receive, send):
    with contextlib.suppress(KeyError, OSError), open(os.environ["CONFIG_FILE_PATH"]) as config:
        MODELS[:] = re.findall(r"model_name: *(\S+)", config.read())
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def read(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def answer(send, status, body):
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(send, chunks, every, until, chunk=None):
    """At most *chunks*, and none after there is a file *until*."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for number in range(chunks):
        if os.path.exists(until):
            break
        await send(
            {"type": "http.response.body", "body": b"data: %b\n\n" % (chunk or b"%d" % number), "more_body": True}
        )
        await asyncio.sleep(every)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
