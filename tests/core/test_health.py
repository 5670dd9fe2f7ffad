"""What LiteLLM's reports mean, and what is kept of them."""

import json

import pytest

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.checks import by_name
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.health import Heard, ModelHealth, judge
from ccproxy_supervisor.core.model import ModelSeen
from ccproxy_supervisor.core.settings import ModelSettings

A, B = Model("m", "openai/a", mock=True), Model("m", "openai/b", mock=True)
PAID = Model("gpt", "openai/gpt-5")
WELL, SICK = Heard(healthy=True, well=1), Heard(healthy=False, detail="refused")


def report(well=1, *errors, status=None):
    sick = [{"model": "m", "error": error, "exception_status": code} for code, error in errors]
    body = {"healthy_endpoints": [{"model": "m"}] * well, "unhealthy_endpoints": sick}
    return Answer(status or (200 if well else 503), json.dumps(body).encode(), 0.5)


TRACE = "litellm.APIConnectionError: cannot connect\nstack trace: Traceback (most recent call last):\n ..."
REFUSED = b'{"error": {"message": "key not allowed to health-check model m", "type": "None", "code": "403"}}'


@pytest.mark.parametrize(
    ("outcome", "heard", "reason"),
    [
        (report(1), Heard(healthy=True, well=1), ""),
        (report(0, (500, TRACE)),
         Heard(healthy=False, detail="cannot be reached: litellm.APIConnectionError: cannot connect"), "status"),
        (report(0, (500, "x" * 999)), Heard(healthy=False, detail="x" * 200), "status"),
        (report(0, (401, "bad key")), Heard(healthy=False, detail="the key is refused: bad key", final=True), "status"),
        (report(0, (403, "no")), Heard(healthy=False, detail="the key is refused: no", final=True), "status"),
        (report(0, (404, "no such model")), Heard(healthy=False, detail="no such model", final=True), "status"),
        (report(0, (429, "slow down")), Heard(healthy=False, detail="slow down"), "status"),
        (report(0, (404, "gone"), (500, "oops")), Heard(healthy=False, detail="2 of 2: gone"), "status"),
        (report(2, (500, "late")), Heard(healthy=True, well=2, detail="1 of 3: late"), ""),
        (report(0), Heard(healthy=False, detail="LiteLLM has no such model"), "status"),
        (Failure("timeout", "no complete answer in 60 s", 60.0), Heard(healthy=False, detail="no complete answer in 60 s"), "timeout"),
        (Failure("refused", "cannot connect", 0.0), Heard(healthy=None, detail="LiteLLM: cannot connect"), "refused"),
        (Answer(403, REFUSED, 0.1),
         Heard(healthy=False, detail="LiteLLM answered 403: key not allowed to health-check model m", final=True), "status"),
        (Answer(404, b'{"detail": {"error": "Model with ID 7 not found"}}', 0.1),
         Heard(healthy=False, detail="LiteLLM answered 404: Model with ID 7 not found", final=True), "status"),
        (Answer(400, b"", 0.1), Heard(healthy=False, detail="LiteLLM answered 400", final=True), "status"),
        (Answer(429, b"[1]", 0.1), Heard(healthy=False, detail="LiteLLM answered 429: [1]"), "status"),
        (Answer(500, b"Internal Server Error", 0.1), Heard(healthy=None, detail="LiteLLM answered 500: Internal Server Error"), "status"),
        (Answer(200, b"hello", 0.1), Heard(healthy=None, detail="not LiteLLM's report"), "garbage"),
        (Answer(200, b"{}", 0.1), Heard(healthy=None, detail="not LiteLLM's report"), "garbage"),
        (Answer(200, b"[" * 100_000, 0.1), Heard(healthy=None, detail="not LiteLLM's report"), "garbage"),
        (Answer(503, b'{"healthy_endpoints": [], "unhealthy_endpoints": [1]}', 0.1),
         Heard(healthy=None, detail="not LiteLLM's report"), "garbage"),
        (Answer(503, b'{"healthy_endpoints": 1, "unhealthy_endpoints": []}', 0.1),
         Heard(healthy=None, detail="not LiteLLM's report"), "garbage"),
        (Answer(403, b"[" * 100_000, 0.1), Heard(healthy=False, detail="LiteLLM answered 403: " + "[" * 200, final=True), "status"),
    ],
)  # fmt: skip
def test_a_models_fault_is_told_from_litellms_and_neither_is_thrown_away(outcome, heard, reason):
    verdict, told = judge(outcome)
    assert told == heard
    assert (verdict.ok, verdict.reason) == (not reason, reason)


def test_a_deployment_that_litellm_does_not_serve_is_noticed():
    assert judge(report(1), 2)[1] == Heard(healthy=True, well=1, detail="LiteLLM serves 1 of 2 deployments")


def health(*models, **settings):
    kept = ModelHealth()
    kept.adopt(by_name(models), ModelSettings(**settings))
    return kept


def test_two_deployments_are_one_row_with_a_count():
    kept = health(A, B)
    kept.heard("m", judge(report(1, (500, "late")), 2)[1], 60.0)
    (view,) = kept.views
    assert (view.healthy, view.deployments, view.well, view.upstreams) == (True, 2, 1, ("openai/a", "openai/b"))
    assert view.detail == "1 of 2: late"


def test_one_failure_is_doubted_and_the_next_believed():
    kept = health(A)
    assert kept.heard("m", WELL, 1.0) == ModelSeen("m", healthy=True, before=None)
    assert kept.heard("m", SICK, 2.0) is None
    assert (kept.views[0].healthy, kept.views[0].detail, kept.doubted("m")) == (True, "failed once: refused", True)
    assert kept.heard("m", SICK, 3.0) == ModelSeen("m", healthy=False, detail="refused", before=True)
    assert not kept.doubted("m")
    assert kept.heard("m", SICK, 4.0) is None
    assert kept.heard("m", WELL, 5.0) == ModelSeen("m", healthy=True, before=False)


def test_a_refused_key_needs_no_second_look():
    kept = health(A)
    assert kept.heard("m", judge(report(0, (401, "bad key")))[1], 1.0).healthy is False


def test_what_litellm_could_not_tell_is_said_and_changes_no_verdict():
    kept = health(A)
    kept.heard("m", WELL, 1.0)
    assert kept.heard("m", Heard(healthy=None, detail="LiteLLM answered 500"), 2.0) is None
    assert (kept.views[0].healthy, kept.views[0].checked, kept.views[0].detail) == (True, 1.0, "LiteLLM answered 500")


def test_a_model_that_is_not_asked_says_why_and_has_no_verdict():
    kept = health(PAID)
    (view,) = kept.views
    assert (view.asked, view.healthy) == (False, None)
    assert view.detail == "not asked: it would cost money; models.check or models.paid allows it"


def test_a_new_configuration_keeps_what_is_known_of_the_names_that_stay():
    kept = health(A, PAID, paid=True)
    kept.heard("m", WELL, 1.0)
    kept.heard("gpt", judge(report(0, (401, "x")))[1], 1.0)
    seen = kept.adopt(by_name([A, PAID]), ModelSettings())
    assert seen == [ModelSeen("gpt", None, "is not asked any more", before=False)]
    assert [view.healthy for view in kept.views] == [True, None]
    assert kept.adopt(by_name([PAID]), ModelSettings(paid=True)) == []
    assert (kept.views[0].asked, kept.views[0].detail) == (True, "")
    assert kept.heard("m", WELL, 1.0) is None
    assert kept.passed_over("m") is None


def test_a_name_that_left_the_config_is_taken_back_if_it_was_unwell():
    kept = health(A)
    kept.heard("m", SICK, 1.0)
    kept.heard("m", SICK, 1.0)
    assert kept.adopt({}, ModelSettings()) == [ModelSeen("m", None, "is not asked any more", before=False)]


def test_passed_over_an_unwell_model_is_forgiven_the_second_time():
    kept = health(A)
    kept.heard("m", SICK, 1.0)
    kept.heard("m", SICK, 1.0)
    assert kept.passed_over("m") is None
    assert kept.passed_over("m").healthy is None
    assert kept.passed_over("m") is None
    assert kept.views[0].detail == "not asked: it is not loaded, and asking would load it"


def test_passed_over_a_well_model_stays_well():
    kept = health(A)
    kept.heard("m", WELL, 1.0)
    assert kept.passed_over("m") is None
    assert kept.views[0].healthy is True
