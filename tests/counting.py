"""Many requests through real LiteLLM to an upstream that counts them, with kills of workers and of the supervisor, and reloads;
afterwards what the supervisor counted is held against what the upstream and the clients saw.

    python tests/counting.py --requests 10000 [--kills 10]
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections import Counter
from typing import Any

from daemon import Daemon
from load import Blow, Load, Outcome, kill, question, spelled
from real import real, shipped
from scraped import parsed
from upstream import Upstream

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
AT_ONCE = 8


class Crowd(Load):
    """*count* requests, some streamed, as fast as they are answered."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__(port)
        asks = [(path, stream) for path in (CHAT, MESSAGES) for stream in (False, True)]
        self._asks = [spelled(path, question("hi", model="up", stream=stream), None) for path, stream in asks]
        self._left = count

    async def _run(self) -> None:
        await asyncio.gather(*(self._go_on(number) for number in range(AT_ONCE)))

    async def _go_on(self, number: int) -> None:
        while self._left > 0:
            self._left -= 1
            began = time.monotonic()
            trouble, _ = await self._exchange(self._asks[(self._left + number) % len(self._asks)])
            self.outcomes.append(Outcome(began, time.monotonic(), trouble))

    @property
    def busy(self) -> bool:
        return self._left > 0


def hurt(daemon: Daemon, crowd: Crowd, kills: int, total: int) -> list[Blow]:
    """Kill a worker, now and then the supervisor, and have the rest replaced, in turn, evenly over the run."""
    blows: list[Blow] = []
    for number in range(1, kills + 1):
        while crowd.busy and len(crowd.outcomes) < number * total // (kills + 1):
            time.sleep(0.05)
        daemon.until(lambda status: status["serving"], 300)
        assert daemon.process
        if number % 3 == 0:
            daemon.process.kill()
            daemon.process.wait()
            daemon.start(wait=None)
            daemon.until(lambda status: status["serving"], 300)
        elif number % 3 == 1:
            blows.append(kill(daemon.pids()[0]))
        else:
            daemon.change(proxy={"env": {"EDITION": str(number)}})
            daemon.process.send_signal(signal.SIGHUP)
    return blows


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--requests", type=int, default=10_000)
    words.add_argument("--kills", type=int, default=9)
    options = words.parse_args()
    with Upstream() as upstream:
        config = shipped(upstream.model(), router_settings={"disable_cooldowns": True, "num_retries": 0})
        with real(config, proxy={"workers": 1, "standby": 1}) as daemon:
            daemon.start()
            began = time.monotonic()
            with Crowd(daemon.port, options.requests) as crowd:
                blows = hurt(daemon, crowd, options.kills, options.requests)
            time.sleep(3)
            return report(parsed(daemon.metrics()), crowd, upstream, blows, time.monotonic() - began)


def report(page: dict[str, Any], crowd: Crowd, upstream: Upstream, blows: list[Blow], seconds: float) -> int:
    """Print what was counted by whom; 1 if they do not agree."""
    counted: Counter[str] = Counter()
    for name, value in page.items():  # who was killed before LiteLLM had read the model is of the model `other`
        if name.startswith("ccproxy_requests_total{") and value:
            counted[name.rpartition("result=")[2].rstrip("}")] += int(value)
    tokens = {kind: page.get(f"ccproxy_tokens_total{{kind={kind}}}{{model=up}}", 0) for kind in ("input", "output")}
    troubles = Counter(outcome.trouble or "good" for outcome in crowd.outcomes)
    inside = sum(any(blow.hit(outcome) for blow in blows) for outcome in crowd.outcomes)
    print(
        f"{len(crowd.outcomes)} requests in {seconds:.0f} s; clients saw {dict(troubles)}; {inside} were under way at a kill"
    )
    print(f"upstream was asked {upstream.asked['up']} times, answered whole {upstream.whole['up']}")
    print(
        f"counted {dict(counted)}, {sum(counted.values())} in all; tokens {tokens}, 11 and 3 each: {11 * counted['ok']}, {3 * counted['ok']}"
    )
    missing = len(crowd.outcomes) - sum(counted.values())
    print(
        f"missing {missing}; answered but not counted as ok {troubles['good'] - counted['ok']}; inside killed workers {counted['lost']}"
    )
    return int(not 0 <= missing <= inside or not 0 <= counted["ok"] - troubles["good"] <= inside)


if __name__ == "__main__":
    sys.exit(main())
