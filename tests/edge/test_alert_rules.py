import re
import shutil
import subprocess

import pytest
import yaml

from watched import FOREIGN, PROMETHEUS, ROOT, RULES, offered, recorded, selectors

ALERTS = [rule for rule in RULES if "alert" in rule]
OFFERED = offered()
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")


def promtool(*words: str) -> str:
    done = subprocess.run(
        [str(PROMTOOL), *words], capture_output=True, text=True, cwd=PROMETHEUS, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_every_alert_fires_when_it_should_and_only_then():
    assert "SUCCESS" in promtool("test", "rules", "tests/ccproxy.test.yml")


@needs_promtool
def test_prometheus_takes_the_configuration_and_the_rules():
    assert f"SUCCESS: {len(ALERTS)} rules found" in promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule):
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "remedy"}
    assert "$labels.instance" in rule["annotations"]["summary"]
    assert (
        "`" in rule["annotations"]["remedy"]
        or "Mac" in rule["annotations"]["remedy"]
        or "room" in rule["annotations"]["remedy"]
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_only_for_what_the_daemon_tells(rule):
    known = {other["record"] for other in RULES if "record" in other}
    assert recorded(rule["expr"]) <= known
    assert selectors(rule["expr"]) or recorded(rule["expr"])
    for name, matchers in selectors(rule["expr"]):
        assert name in OFFERED or name in FOREIGN
        for label, values in matchers.items():
            for value in values.split("|"):
                assert name in FOREIGN or label == "job" or (label, value) in OFFERED[name]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_test_in_which_it_fires(rule):
    tests = (PROMETHEUS / "tests" / "ccproxy.test.yml").read_text()

    fires = rf'alertname="{rule["alert"]}"[^\n]*(?:value: 1|\n.*\n *exp_samples:\n.*value: 1)|alertname: {rule["alert"]}\n +exp_alerts:\n'
    assert re.search(fires, tests)


def test_the_page_about_monitoring_lists_the_alerts_there_are():
    rows = re.findall(r"^\| `(Ccproxy\w+)` \| (\w+) \|", (ROOT / "docs" / "MONITORING.md").read_text(), re.MULTILINE)

    assert rows == [(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS]


def test_what_is_asked_of_last_month_is_still_kept():
    page = (ROOT / "docs" / "MONITORING.md").read_text()
    kept = re.findall(r"--storage\.tsdb\.retention\.time=(\d+)d", page + (PROMETHEUS / "prometheus.yml").read_text())
    asked = [int(days) for days in re.findall(r"\[(\d+)d\]", page)]

    assert asked
    assert len(kept) == 2  # where it is started, and in the file
    assert max(asked) < min(map(int, kept))


def test_the_commands_that_remedies_name_exist():
    from ccproxy_supervisor.cli import COMMANDS

    named = set(re.findall(r"`ccproxy-supervisor ([a-z]+)", " ".join(rule["annotations"]["remedy"] for rule in ALERTS)))

    assert named
    assert named <= set(COMMANDS)


def test_the_settings_that_alerts_name_exist():
    from ccproxy_supervisor.core.settings import Settings

    texts = " ".join(" ".join(rule["annotations"].values()) for rule in ALERTS)
    for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)", texts):
        assert hasattr(getattr(Settings(), section), key), f"{section}.{key}"


def test_prometheus_scrapes_the_daemon_of_this_host_and_nothing_with_a_secret():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())

    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["ccproxy"]["file_sd_configs"][0]["files"] == ["targets/ccproxy.json"]
    assert "127.0.0.1:8082" in (PROMETHEUS / "targets" / "ccproxy.json").read_text()
    assert "credentials" not in str(config)
