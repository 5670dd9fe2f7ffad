import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client import Counter as TheirCounter
from prometheus_client import Gauge as TheirGauge
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ccproxy_supervisor.core.exposition import OPENMETRICS, TEXT, Counter, Gauge, Histogram, page

ODD = 'a"b\\c\nd'


def ours():
    asked, load = Counter("asked", f"How often, {ODD}.", ("model", "reason")), Gauge("load", "Now.")
    took = Histogram("took_seconds", "How long.", (0.1, 1, 2.5), ("model",))
    asked.labels("echo", ODD).inc(2)
    load.add_metric([], math.inf)
    for seconds in (0.1, 0.2, 2.5, 9):
        took.labels("echo").observe(seconds)
    return asked, load, took


def theirs():
    disable_created_metrics()
    registry = CollectorRegistry()
    TheirCounter("asked", f"How often, {ODD}.", ("model", "reason"), registry=registry).labels("echo", ODD).inc(2)
    TheirGauge("load", "Now.", registry=registry).set(math.inf)
    took = TheirHistogram("took_seconds", "How long.", ("model",), buckets=(0.1, 1, 2.5), registry=registry)
    for seconds in (0.1, 0.2, 2.5, 9):
        took.labels("echo").observe(seconds)
    return registry


def families(parse, text):
    return [
        (family.name, family.type, family.documentation, {(s.name, *sorted(s.labels.items()), s.value) for s in family.samples})
        for family in parse(text)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("accept", "parse", "reference"),
    [
        ("", parse_text, generate_latest),
        ("application/openmetrics-text; version=1.0.0", parse_openmetrics, openmetrics_of),
    ],
)
def test_a_page_says_what_the_clients_own_library_says(accept, parse, reference):
    text, _ = page(ours(), accept)
    assert families(parse, text.decode()) == families(parse, reference(theirs()).decode())


@pytest.mark.parametrize(
    ("accept", "told"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1;q=0.5,text/plain", TEXT),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3", OPENMETRICS),
        (";;,=;version=", TEXT),
    ],
)  # fmt: skip
def test_the_accept_header_chooses(accept, told):
    assert page((), accept)[1] == told


def test_closed_label_sets_are_there_from_the_start_and_others_when_they_are_told_of():
    closed = Counter("a", "A.", ("x", "y"), (("1", "2"), ("3",)))
    alone, told = Gauge("b", "B.", (), ()), Gauge("c", "C.", ("x",))

    assert page((closed, alone, told), "")[0].decode().splitlines() == [
        "# HELP a_total A.", "# TYPE a_total counter", 'a_total{x="1",y="3"} 0.0', 'a_total{x="2",y="3"} 0.0',
        "# HELP b B.", "# TYPE b gauge", "b 0.0", "# HELP c C.", "# TYPE c gauge",
    ]  # fmt: skip


@given(st.text(), st.floats(allow_nan=False))
def test_any_label_and_number_come_back(label, number):
    family = Gauge("a", "A.", ("x",))
    family.add_metric([label], number)
    label = label.encode("utf-8", "replace").decode()

    ((sample,),) = [
        family.samples for family in parse_openmetrics(page((family,), "application/openmetrics-text")[0].decode())
    ]
    assert (sample.labels, sample.value) == ({"x": label}, number)
