"""The traffic for Prometheus: asked for at the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ccproxy_supervisor.core.exposition import Counter, Family, Gauge, Histogram
from ccproxy_supervisor.core.traffic import KINDS, MICRO, RESULTS, Book, Numbers, add, buckets, by
from ccproxy_supervisor.launcher.tally import BOUNDS, TIMES

TEXTS = {
    "first_byte": "From the request to the first byte of its answer.",
    "first_token": "From the request to the first token of a streamed answer.",
    "duration": "From the request to the end of its answer.",
    "queued": "Wait for a place among those in flight.",
}


class TrafficNumbers:
    """*totals* are all that was counted, and what is in flight."""

    def __init__(self, totals: Callable[[], tuple[Book, Book]]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Family]:
        """Answer the registry."""
        totals, live = self._totals()
        models, clients = by(totals, "model"), by(totals, "client")
        yield _requests(totals)
        flying = Gauge("ccproxy_requests_in_flight", "Requests that are being answered.", ("model",))
        now = by(live, "model")
        for model in {**models, **now}:
            flying.add_metric([model], now.get(model, {}).get("in_flight", 0))
        yield flying
        yield _counted("ccproxy_request_retries", "Retries by LiteLLM.", models, "model", "retried")
        yield _tokens("ccproxy_tokens", "model", models)
        yield from (_times(name, models) for name in TIMES)
        asked = Counter("ccproxy_client_requests", "Requests by client and result.", ("client", "result"))
        for client, numbers in clients.items():
            for result in RESULTS:
                asked.add_metric([client, result], numbers.get(result, 0))
        yield asked
        yield _tokens("ccproxy_client_tokens", "client", clients)


def _requests(totals: Book) -> Counter:
    family = Counter("ccproxy_requests", "Requests by model, API and result.", ("model", "api", "result"))
    rows: dict[tuple[str, str], Numbers] = {}
    for key, numbers in totals.items():
        add(rows.setdefault((key.model, key.api), {}), numbers)
    for (model, api), numbers in rows.items():
        for result in RESULTS:
            family.add_metric([model, api, result], numbers.get(result, 0))
    return family


def _counted(name: str, text: str, rows: dict[str, Numbers], label: str, field: str) -> Counter:
    family = Counter(name, text, (label,))
    for value, numbers in rows.items():
        family.add_metric([value], numbers.get(field, 0))
    return family


def _tokens(name: str, label: str, rows: dict[str, Numbers]) -> Counter:
    family = Counter(name, "Tokens in, out, and of those in from a cache, as the upstream said.", (label, "kind"))
    for value, numbers in rows.items():
        for kind in KINDS:
            family.add_metric([value, kind], numbers.get(kind, 0))
    return family


def _times(name: str, models: dict[str, Numbers]) -> Histogram:
    family = Histogram(f"ccproxy_request_{name}_seconds", TEXTS[name], BOUNDS[:-1], ("model",))
    for model, numbers in models.items():
        family.labels(model).set(buckets(numbers, name), numbers.get(f"{name} sum", 0) / MICRO)
    return family
