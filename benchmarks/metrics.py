"""How long a scrape takes: the real page from the real embedded server on loopback, 1000 times, one connection each.

python benchmarks/metrics.py [scrapes]
"""

import asyncio
import resource
import statistics
import sys
import time

import anyio

from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.model import State, Status, Usage
from ccproxy_supervisor.edge.admin import admin_app
from ccproxy_supervisor.edge.embedded import serve_tcp
from ccproxy_supervisor.edge.gauges import Gauges, ProcessGauges, Reading, Sources
from ccproxy_supervisor.edge.metrics import Metrics


def page() -> Metrics:
    """Four workers and twenty models."""
    readings = [Reading(n, n, State.SERVING, 60.0, Usage(300 << 20, 9.0, 40, 20)) for n in range(4)]
    models = [ModelView(f"model-{n}") for n in range(20)]
    sources = Sources(
        status=lambda: Status.HEALTHY, generation=lambda: 1, workers=lambda: readings, logs=dict, held=lambda: 0,
        models=lambda: models, ollama=lambda: None,
    )  # fmt: skip
    gauges = Gauges(sources, "0.1.0")
    gauges.adopt(4, [f"tag-{n}" for n in range(20)], "1.0.0")
    return Metrics([gauges, ProcessGauges()])


async def ask(port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    return len(answer)


async def client(port: int, times: int) -> None:
    for path, what in (("/health", "the server alone, the limit"), ("/metrics", "the whole page")):
        size, seconds = await ask(port, path), []
        for _ in range(times):
            begun = time.perf_counter()
            await ask(port, path)
            seconds.append(time.perf_counter() - begun)
        cuts = statistics.quantiles(seconds, n=100)
        p50, p99 = cuts[49] * 1000, cuts[98] * 1000
        print(f"{path:9} {times} times {size:6} bytes  p50 {p50:5.2f} ms  p99 {p99:5.2f} ms  ({what})", flush=True)


async def main(scrapes: int) -> None:
    opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    app = admin_app(lambda: {"status": "healthy"}, dict, page().render, set)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_tcp, app, "127.0.0.1", 0, lambda note: opened.set_result(note.fields["port"]))
        command = [sys.executable, __file__, "--client", str(await opened), str(scrapes)]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
        tasks.cancel_scope.cancel()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(f"server: peak RSS {memory:.0f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        asyncio.run(client(int(sys.argv[2]), int(sys.argv[3])))
    else:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
