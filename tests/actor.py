"""A model, run by LiteLLM, that does what the last message tells it.

`print WORD COUNT`: as many numbered lines to standard output. `tell NAME`: an environment variable, to standard output
and standard error. `grow MIB`: keeps so much memory. `block SECONDS`: stops the event loop, and makes a file `blocked`. `pause SECONDS`:
answers after so long. `hang`: no handler of this process ever answers again. `shut`: nobody accepts on the public socket any more.
"""

import asyncio
import gc
import os
import sys
import time
from pathlib import Path

import uvicorn
from litellm import CustomLLM
from litellm.integrations.custom_logger import CustomLogger

BALLAST = bytearray()


class Actor(CustomLLM):
    async def acompletion(self, *args, **kwargs):
        order, *words = kwargs["messages"][-1]["content"].split()
        match order:
            case "print":
                for number in range(int(words[1])):
                    print(words[0], number, "x" * 60)
            case "tell":
                for stream in (sys.stdout, sys.stderr):
                    print("told:", os.environ[words[0]], file=stream, flush=True)
            case "grow":
                BALLAST.extend(b"x" * (int(words[0]) << 20))
            case "block":
                Path("blocked").touch()
                time.sleep(float(words[0]))  # noqa: ASYNC251 - that is the trouble it makes
            case "pause":
                await asyncio.sleep(float(words[0]))
            case "hang":
                for each in all_of(CustomLLM):
                    type(each).acompletion = type(each).astreaming = hang
            case "shut":
                for each in all_of(uvicorn.Server):
                    if each.config.lifespan == "off":  # the public one
                        for server in each.servers:
                            server.close()
        answer = kwargs["model_response"]
        answer.choices[0].message.content = f"done: {order}"
        return answer


def all_of(kind):
    return [each for each in gc.get_objects() if isinstance(each, kind)]


async def hang(self, *args, **kwargs):
    await asyncio.Event().wait()


class Witness(CustomLogger):
    """A callback that says what it is told of."""

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        print("witness: success", kwargs["model"])

    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        print("witness: failure", kwargs["model"])


handler = Actor()
witness = Witness()
