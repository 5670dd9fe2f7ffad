import json
import re
import shutil
import subprocess

import pytest

from watched import DASHBOARD, FOREIGN, RULES, offered, queries, recorded, selectors

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OFFERED = offered()
PROMTOOL = shutil.which("promtool")


def named(panel):
    return panel["title"]


def test_it_belongs_to_no_grafana_in_particular():
    assert "id" not in DASHBOARD
    assert "uid" not in DASHBOARD
    assert "__inputs" not in DASHBOARD
    uids = set(re.findall(r'"uid": "([^"]*)"', json.dumps(DASHBOARD)))
    assert uids == {"${datasource}", "-- Grafana --"}


def test_its_variables_are_the_data_source_and_the_mac():
    datasource, instance = DASHBOARD["templating"]["list"]

    assert (datasource["name"], datasource["type"], datasource["query"]) == ("datasource", "datasource", "prometheus")
    assert (instance["name"], instance["multi"], instance["includeAll"]) == ("instance", True, True)
    assert instance["query"]["query"] == "label_values(ccproxy_status, instance)"


def test_panels_have_their_own_number_and_place():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_what_a_person_looks_for_is_there():
    assert {"Status", "State of the service", "Restarts by cause", "Failovers, 24 h", "Failover time"} <= set(
        map(named, PANELS)
    )
    assert {"Probe latency, p95", "Memory per worker", "Models", "Ollama's models", "Log volume"} <= set(
        map(named, PANELS)
    )
    assert next(panel["title"] for panel in PANELS if panel["type"] == "state-timeline") == "State of the service"


@pytest.mark.parametrize("panel", PANELS, ids=named)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] in ("stat", "state-timeline")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)


@pytest.mark.parametrize(("title", "query"), queries())
def test_a_query_asks_only_for_what_is_told(title, query):
    assert selectors(query) or recorded(query)
    assert recorded(query) <= {rule["record"] for rule in RULES if "record" in rule}
    for name, matchers in selectors(query):
        assert name in OFFERED or name in FOREIGN
        for label, values in matchers.items():
            for value in values.split("|"):
                assert name in FOREIGN or label in ("instance", "job") or (label, value) in OFFERED[name]


@pytest.mark.parametrize("panel", PANELS, ids=named)
def test_every_query_of_ours_follows_the_chosen_mac(panel):
    for target in panel["targets"]:
        ours = [name for name, _ in selectors(target["expr"]) if not name.startswith("traefik_")]
        assert target["expr"].count('instance=~"$instance"') == len(ours) + len(recorded(target["expr"]))


def test_a_state_is_shown_in_words_and_colours():
    from ccproxy_supervisor.core.model import Status

    panel = next(panel for panel in PANELS if panel["title"] == "State of the service")
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    words = {number: told["text"] for number, told in mapping["options"].items()}

    assert {*words.values()} == {*Status, "silent"}
    for number, word in words.items():
        assert word == "silent" or f'{number} * ccproxy_status{{status="{word}"' in panel["targets"][0]["expr"]


def test_a_short_look_back_shows_the_wait_and_not_what_is_left_of_it():
    (panel,) = [panel for panel in PANELS if panel["title"] == "Waiting before the next try"]

    assert [target["expr"].partition("(")[0] for target in panel["targets"]] == ["max_over_time"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_can_parse_every_query(tmp_path):
    rules = [{"record": f"query:number:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", "queries.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert f"SUCCESS: {len(rules)} rules found" in done.stdout, done.stdout + done.stderr
