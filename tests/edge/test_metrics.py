from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.ladder import Step
from ccproxy_supervisor.core.model import (
    LOGS,
    PROBE_REASONS,
    PROBES,
    RELOAD_RESULTS,
    Cause,
    Ending,
    Failover,
    Helped,
    Note,
    OllamaStatus,
    Probed,
    Reloaded,
    State,
    Status,
    Transition,
    Usage,
    Verdict,
)
from ccproxy_supervisor.edge.gauges import Gauges, ProcessGauges, Reading, Sources
from ccproxy_supervisor.edge.metrics import Metrics
from scraped import parsed

#: The contract: every family, its type and its labels.
CONTRACT = {
    "ccproxy_build_info": ("gauge", {"version", "python", "litellm"}),
    "ccproxy_status": ("gauge", {"status"}),
    "ccproxy_generation": ("gauge", set()),
    "ccproxy_workers": ("gauge", {"state"}),
    "ccproxy_worker_endings_total": ("counter", {"cause"}),
    "ccproxy_worker_restarts_total": ("counter", {"cause"}),
    "ccproxy_workers_adopted_total": ("counter", set()),
    "ccproxy_supervisor_restarts_total": ("counter", set()),
    "ccproxy_supervisor_renewals_total": ("counter", set()),
    "ccproxy_worker_start_seconds": ("histogram", set()),
    "ccproxy_worker_drain_seconds": ("histogram", set()),
    "ccproxy_worker_backoff_seconds": ("gauge", {"slot"}),
    "ccproxy_worker_cpu_seconds_total": ("counter", {"slot"}),
    "ccproxy_worker_resident_memory_bytes": ("gauge", {"slot"}),
    "ccproxy_worker_open_fds": ("gauge", {"slot"}),
    "ccproxy_worker_threads": ("gauge", {"slot"}),
    "ccproxy_worker_uptime_seconds": ("gauge", {"slot"}),
    "ccproxy_failover_seconds": ("histogram", set()),
    "ccproxy_probe_success": ("gauge", {"probe"}),
    "ccproxy_probe_seconds": ("histogram", {"probe"}),
    "ccproxy_probe_failures_total": ("counter", {"probe", "reason"}),
    "ccproxy_model_healthy": ("gauge", {"model"}),
    "ccproxy_model_checked_timestamp_seconds": ("gauge", {"model"}),
    "ccproxy_model_asked": ("gauge", {"model"}),
    "ccproxy_model_deployments": ("gauge", {"model"}),
    "ccproxy_model_healthy_deployments": ("gauge", {"model"}),
    "ccproxy_ollama_up": ("gauge", set()),
    "ccproxy_ollama_stuck": ("gauge", set()),
    "ccproxy_ollama_help_total": ("counter", {"step"}),
    "ccproxy_ollama_model_available": ("gauge", {"model"}),
    "ccproxy_ollama_model_loaded": ("gauge", {"model"}),
    "ccproxy_held_requests_total": ("counter", set()),
    "ccproxy_log_bytes_total": ("counter", {"log"}),
    "ccproxy_log_rotations_total": ("counter", {"log"}),
    "ccproxy_log_dropped_bytes_total": ("counter", {"log"}),
    "ccproxy_config_reloads_total": ("counter", {"result"}),
    "ccproxy_config_last_reload_successful": ("gauge", set()),
    "ccproxy_config_last_reload_success_timestamp_seconds": ("gauge", set()),
    "ccproxy_event_loop_lag_seconds": ("histogram", set()),
    "process_cpu_seconds_total": ("counter", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_virtual_memory_bytes": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
    "process_open_fds": ("gauge", set()),
    "process_max_fds": ("gauge", set()),
}


class World:
    """The daemon as the metrics see it."""

    def __init__(self):
        self.status, self.generation, self.held, self.readings, self.logs, self.wall = (
            Status.STARTING,
            0,
            0,
            [],
            {},
            1000.0,
        )
        sources = Sources(
            lambda: self.status, lambda: self.generation, lambda: self.readings, lambda: self.logs, lambda: self.held,
            lambda: self.models, lambda: self.ollama,
        )  # fmt: skip
        self.models, self.ollama = (ModelView("echo"), ModelView("llama")), None
        self.gauges = Gauges(sources, "0.1.0")
        self.metrics = Metrics([self.gauges, ProcessGauges()], lambda: self.wall)
        self.gauges.adopt(2, ["llama2"], "1.106.2")

    def tell(self, *events):
        for event in events:
            self.metrics(event)

    def samples(self):
        """Every sample of a scrape, as name{label=value,…} without quotes."""
        return parsed(self.metrics.render("")[0].decode())


@pytest.fixture
def world():
    return World()


def gone(cause, old=State.SERVING, slot=0, since=1.0):
    return Transition(7, slot, 1, old, State.GONE, since, 41, Ending(cause, 10.0, 0.0))


def test_the_first_scrape_has_every_metric_with_its_type_and_labels(world):
    page = world.metrics.render("")[0].decode()
    families = {f.name + ("_total" if f.type == "counter" else ""): f for f in parse_text(page)}
    found = {
        name: (family.type, {label for s in family.samples for label in s.labels if label != "le"})
        for name, family in families.items()
    }
    assert found == CONTRACT


def test_the_first_scrape_has_every_closed_label_at_zero(world):
    samples = world.samples()
    expected = [
        *(f"ccproxy_workers{{state={state}}}" for state in State),
        *(f"ccproxy_worker_endings_total{{cause={cause}}}" for cause in Cause),
        *(f"ccproxy_worker_restarts_total{{cause={cause}}}" for cause in Cause),
        *(f"ccproxy_probe_success{{probe={probe}}}" for probe in PROBES),
        *(f"ccproxy_probe_seconds_count{{probe={probe}}}" for probe in PROBES),
        *(f"ccproxy_probe_failures_total{{probe={p}}}{{reason={r}}}" for p in PROBES for r in PROBE_REASONS),
        *(f"ccproxy_log_bytes_total{{log={log}}}" for log in LOGS),
        *(f"ccproxy_config_reloads_total{{result={result}}}" for result in RELOAD_RESULTS),
        *(f"ccproxy_worker_cpu_seconds_total{{slot={slot}}}" for slot in (0, 1)),
        *(f"ccproxy_worker_backoff_seconds{{slot={slot}}}" for slot in (0, 1)),
        *(f"ccproxy_model_healthy{{model={model}}}" for model in ("echo", "llama")),
        "ccproxy_ollama_model_available{model=llama2}",
        "ccproxy_ollama_model_loaded{model=llama2}",
        "ccproxy_ollama_up",
        "ccproxy_held_requests_total",
        "ccproxy_generation",
    ]
    assert {name: samples.get(name) for name in expected} == dict.fromkeys(expected, 0.0)


def test_a_running_daemon_has_read_its_configuration(world):
    samples = world.samples()
    assert samples["ccproxy_config_last_reload_successful"] == 1
    assert samples["ccproxy_config_last_reload_success_timestamp_seconds"] == 1000


def test_only_the_present_status_is_one(world):
    world.status = Status.DEGRADED
    states = {k: v for k, v in world.samples().items() if k.startswith("ccproxy_status")}
    assert states == {f"ccproxy_status{{status={s}}}": float(s == "degraded") for s in Status}


def test_the_accept_header_chooses_the_format(world):
    text, plain = world.metrics.render("")
    openmetrics, content_type = world.metrics.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain.startswith("text/plain; version=0.0.4")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text != openmetrics
    assert {f.name for f in parse_openmetrics(openmetrics.decode())} == {f.name for f in parse_text(text.decode())}


def test_endings_and_restarts_are_counted_by_cause(world):
    world.tell(gone(Cause.EXITED), gone(Cause.MEMORY), gone(Cause.STOP), gone(Cause.EXITED, slot=None))
    samples = world.samples()
    endings = {c: samples[f"ccproxy_worker_endings_total{{cause={c}}}"] for c in Cause}
    restarts = {c: samples[f"ccproxy_worker_restarts_total{{cause={c}}}"] for c in Cause}
    assert {c: n for c, n in endings.items() if n} == {Cause.EXITED: 2, Cause.MEMORY: 1, Cause.STOP: 1}
    assert {c: n for c, n in restarts.items() if n} == {Cause.EXITED: 1, Cause.MEMORY: 1}


def test_starts_and_drains_are_timed(world):
    world.tell(
        Transition(1, 0, 1, State.STARTING, State.STANDBY, 7.0),
        Transition(1, 0, 1, State.STANDBY, State.SERVING, 0.01),
        gone(Cause.RELOAD, State.DRAINING, since=3.0),
        gone(Cause.UNRESPONSIVE, State.DRAINING, since=5.0),
        Failover(0, 0.07),
    )
    samples = world.samples()
    assert (samples["ccproxy_worker_start_seconds_count"], samples["ccproxy_worker_start_seconds_sum"]) == (1, 7)
    assert (samples["ccproxy_worker_drain_seconds_count"], samples["ccproxy_worker_drain_seconds_sum"]) == (1, 3)
    assert (samples["ccproxy_failover_seconds_count"], samples["ccproxy_failover_seconds_bucket{le=0.1}"]) == (1, 1)


def test_probes_are_timed_and_their_failures_counted_by_reason(world):
    world.tell(
        Probed("liveness", "worker 1", Verdict(ok=True, seconds=0.002)),
        Probed("ollama", "ollama", Verdict(ok=True, seconds=0.002)),
        Probed("ollama", "ollama", Verdict(ok=False, seconds=5.0, reason="timeout")),
    )
    samples = world.samples()
    assert samples["ccproxy_probe_success{probe=liveness}"] == 1
    assert samples["ccproxy_probe_success{probe=ollama}"] == 0
    assert samples["ccproxy_probe_seconds_count{probe=ollama}"] == 2
    assert samples["ccproxy_probe_failures_total{probe=ollama}{reason=timeout}"] == 1


@pytest.mark.parametrize("result", RELOAD_RESULTS)
def test_a_reload_is_counted_and_dated_if_it_went_well(world, result):
    world.wall = 2000.0
    world.tell(Reloaded(result, "", "SIGHUP"))
    samples, well = world.samples(), result in ("applied", "rolled", "unchanged")
    assert samples[f"ccproxy_config_reloads_total{{result={result}}}"] == 1
    assert samples["ccproxy_config_last_reload_successful"] == well
    assert samples["ccproxy_config_last_reload_success_timestamp_seconds"] == (2000 if well else 1000)


def test_an_older_order_that_ends_later_does_not_hide_what_was_read_last(world):
    world.tell(Reloaded("refused", "", "SIGHUP", order=2), Reloaded("rolled", "", "SIGHUP", order=1))
    samples = world.samples()
    assert samples["ccproxy_config_reloads_total{result=rolled}"] == 1
    assert samples["ccproxy_config_last_reload_successful"] == 0


def test_workers_are_shown_by_state_and_slot(world):
    world.readings = [
        Reading(1, 0, State.DRAINING, 99.0, Usage(1, 1.0, 1, 1)),
        Reading(2, 0, State.SERVING, 5.0, Usage(300, 2.0, 30, 3)),
        Reading(3, 1, State.BACKOFF, backoff=4.5),
        Reading(4, None, State.STANDBY, 6.0, Usage(200, 3.0, 20, 2)),
    ]
    samples = world.samples()
    assert {s: samples[f"ccproxy_workers{{state={s}}}"] for s in State} == {
        State.STARTING: 0, State.STANDBY: 1, State.SERVING: 1, State.DRAINING: 1, State.BACKOFF: 1, State.GONE: 0,
    }  # fmt: skip
    shown = ("resident_memory_bytes", "open_fds", "threads", "uptime_seconds", "backoff_seconds")
    assert [samples[f"ccproxy_worker_{name}{{slot=0}}"] for name in shown] == [300, 30, 3, 5, 0]
    assert [samples[f"ccproxy_worker_{name}{{slot=1}}"] for name in shown] == [0, 0, 0, 0, 4.5]


def test_cpu_time_of_a_slot_never_falls_when_its_worker_is_replaced(world):
    def cpu(*readings):
        world.readings = [
            Reading(n, slot, State.SERVING, usage=Usage(0, used, 0, 0) if used else None) for n, slot, used in readings
        ]
        return world.samples()["ccproxy_worker_cpu_seconds_total{slot=0}"]

    assert cpu((1, 0, 6.0), (2, None, 5.0)) == 6
    assert cpu((1, 0, 8.0), (2, None, 5.0)) == 8
    assert cpu((2, None, 5.5)) == 8
    assert cpu((2, 0, 6.5)) == 9  # a standby brings only what it uses from here on
    assert cpu((2, 0, None)) == 9  # could not be read
    assert cpu((2, 0, 7.5)) == 10
    assert cpu((2, 0, 9.0), (3, 0, 6.0)) == 17.5  # two in one slot during a replacement
    assert cpu() == 17.5


def test_a_reload_changes_the_label_sets(world):
    world.gauges.adopt(1, ["qwen:8b"], None)
    world.models = (ModelView("echo", healthy=True), ModelView("new"))
    samples = world.samples()
    assert {k for k in samples if "{slot=" in k and "cpu" in k} == {"ccproxy_worker_cpu_seconds_total{slot=0}"}
    healthy = {k: v for k, v in samples.items() if k.startswith("ccproxy_model_healthy{")}
    assert healthy == {"ccproxy_model_healthy{model=echo}": 1, "ccproxy_model_healthy{model=new}": 0}
    assert {k for k in samples if "ollama_model_loaded" in k} == {"ccproxy_ollama_model_loaded{model=qwen:8b}"}


def test_a_models_check_is_dated(world):
    world.models = (ModelView("llama", healthy=False, checked=1500.0), ModelView("echo"))
    samples = world.samples()
    assert samples["ccproxy_model_checked_timestamp_seconds{model=llama}"] == 1500
    assert samples["ccproxy_model_checked_timestamp_seconds{model=echo}"] == 0


def test_a_model_whose_answer_no_longer_counts_is_as_if_it_was_never_asked(world):
    world.models = (ModelView("llama", healthy=None, checked=1500.0),)
    samples = world.samples()
    assert samples["ccproxy_model_checked_timestamp_seconds{model=llama}"] == 0
    assert samples["ccproxy_model_healthy{model=llama}"] == 0


def test_deployments_under_one_name_are_one_series_that_counts_them(world):
    world.models = (ModelView("llama", healthy=True, deployments=3, well=2), ModelView("paid", asked=False))
    samples = world.samples()
    told = [
        samples[f"ccproxy_model_{kind}{{model=llama}}"]
        for kind in ("healthy", "asked", "deployments", "healthy_deployments")
    ]
    assert told == [1, 1, 3, 2]
    assert samples["ccproxy_model_asked{model=paid}"] == 0


def test_ollamas_models_are_matched_as_ollama_does(world):
    world.ollama = OllamaStatus(True, "0.12.3", ("Llama2:latest", "other:1"), ("llama2",))
    samples = world.samples()
    assert samples["ccproxy_ollama_up"] == 1
    assert samples["ccproxy_ollama_model_available{model=llama2}"] == 1
    assert samples["ccproxy_ollama_model_loaded{model=llama2}"] == 1
    world.ollama = OllamaStatus(up=False)
    assert world.samples()["ccproxy_ollama_model_available{model=llama2}"] == 0


def test_a_stuck_ollama_and_what_was_done_for_it_are_counted(world):
    world.ollama = OllamaStatus(up=True, stuck="llama2 answers nothing")
    world.tell(Helped("unload", "x"), Helped("shout", "x"))
    samples = world.samples()
    assert samples["ccproxy_ollama_stuck"] == 1
    steps = {step: samples[f"ccproxy_ollama_help_total{{step={step}}}"] for step in Step}
    assert steps == {"unload": 1, "restart_runner": 0, "restart_command": 0, "shout": 1}


def test_ollama_switched_off_is_neither_up_nor_listed(world):
    world.gauges.adopt(2, (), None)
    samples = world.samples()
    assert samples["ccproxy_ollama_up"] == 0
    assert not [k for k in samples if k.startswith("ccproxy_ollama_model")]


def test_logs_and_held_requests_are_read_at_the_scrape(world):
    world.held = 3
    world.logs = {"stdout": SimpleNamespace(bytes=10, rotations=2, dropped=1)}
    samples = world.samples()
    assert samples["ccproxy_held_requests_total"] == 3
    assert [samples[f"ccproxy_log_{n}_total{{log=stdout}}"] for n in ("bytes", "rotations", "dropped_bytes")] == [
        10,
        2,
        1,
    ]


def test_a_strange_model_name_does_not_break_the_page(world):
    world.models = (ModelView('a"b\\c\nd'), ModelView("\ud800"))
    assert 'ccproxy_model_healthy{model=a"b\\c\nd}' in world.samples()


def test_a_note_counts_nothing(world):
    before = world.samples()
    world.tell(Note("anything.said"))
    changed = {k for k, v in world.samples().items() if v != before[k] and not k.startswith("process_")}
    assert changed == set()


def test_the_process_is_this_one(world):
    samples = world.samples()
    assert samples["process_resident_memory_bytes"] > 1 << 20
    assert samples["process_open_fds"] >= 3
    assert samples["process_max_fds"] > samples["process_open_fds"]


def test_the_lag_of_the_event_loop_is_observed(world):
    world.metrics.observe_lag(0.2)
    assert world.samples()["ccproxy_event_loop_lag_seconds_sum"] == 0.2
