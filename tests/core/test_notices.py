from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.core.notices import CALM, GATHER, LASTING, LONGEST_CALM, Notices, Trouble

OLLAMA = Trouble("ollama", "Ollama does not answer", LASTING)
MODEL = Trouble("model a", "Model a fails", LASTING)
OTHER = Trouble("model b", "Model b fails", LASTING)
WORKER = Trouble("worker 0", "Worker 1 in slot 0 was killed")
SERVICE = Trouble("service", "Nobody is served", 2.0, grave=True)


def play(*scenes, until=1000.0, notices=None, start=0.0):
    """Each scene is (begin, end, trouble); an end of None: it only happened. Looks at every change, and when it is due."""
    notices, told, now = notices or Notices(), [], start
    moments = sorted({start, *(at for begin, end, _ in scenes for at in (begin, end) if at is not None and at != inf)})
    while now <= until:
        for begin, end, trouble in scenes:
            if end is None and begin == now:
                notices.happened(now, trouble)
        current = [trouble for begin, end, trouble in scenes if end is not None and begin <= now < end]
        told += [(round(now, 3), each) for each in notices.look(now, current)]
        due = now + notices.due(now)
        assert due > now or due == inf, "it would turn for ever"
        now = min([due, *(moment for moment in moments if moment > now)])
    return told


def events(*scenes, **more):
    return [(at, each.event, each.title) for at, each in play(*scenes, **more)]


def test_an_incident_is_told_once_and_its_end_once():
    assert events((10, 100, OLLAMA)) == [
        (10 + LASTING, "began", "Ollama does not answer"),
        (100 + CALM, "over", "over after 1 min 30 s: Ollama does not answer"),
    ]


def test_what_passes_by_itself_is_not_told():
    assert events((10, 10 + LASTING - 1, OLLAMA), (50, 51, SERVICE)) == []


def test_what_happened_is_told_though_it_is_over():
    assert events((10, None, WORKER)) == [
        (10 + GATHER, "began", "Worker 1 in slot 0 was killed"),
        (10 + GATHER + CALM, "over", "over after 3.0 s: Worker 1 in slot 0 was killed"),
    ]


def test_what_belongs_together_is_one_incident_the_gravest_first():
    told = play((10, 40, WORKER), (10, 30, SERVICE), (11, 60, OLLAMA), (300, 310, MODEL))

    assert [(each.event, each.title, each.lines) for _, each in told] == [
        ("began", "Nobody is served", ("Worker 1 in slot 0 was killed",)),
        ("over", "over after 50 s: Worker 1 in slot 0 was killed", ("Nobody is served", "Ollama does not answer")),
        ("began", "Model a fails", ()),
        ("over", "over after 10 s: Model a fails", ()),
    ]


def test_what_follows_from_an_incident_is_no_other_one():
    assert [event for _, event, _ in events((0, 500, OLLAMA), (200, 600, MODEL))] == ["began", "over"]


def test_what_has_nothing_to_do_with_it_is_told_beside_it():
    told = events((0, 900, MODEL), (800, 850, OLLAMA), until=2000)
    assert [title for _, event, title in told if event == "began"] == ["Model a fails", "Ollama does not answer"]


def test_models_of_a_dead_upstream_are_one_incident_and_one_much_later_is_another():
    near, late = (
        events((0, 5000, MODEL), (300, 5000, OTHER), until=6000),
        events((0, 5000, MODEL), (900, 5000, OTHER), until=6000),
    )
    assert [event for _, event, _ in near] == ["began", "over"]
    assert [event for _, event, _ in late] == ["began", "began", "over", "over"]


def test_that_nobody_is_served_any_more_is_told_though_an_incident_is_open():
    told = events((0, 500, WORKER), (300, 400, SERVICE))
    assert [title for _, event, title in told if event == "began"] == [WORKER.words, SERVICE.words]


def test_a_crash_loop_is_a_handful_of_notices_an_hour():
    told = events(*((at, None, WORKER) for at in range(0, 3600, 30)), until=3600)
    assert len(told) <= 10
    assert [event for _, event, _ in told] == ["began", "over"] * (len(told) // 2) + ["began"] * (len(told) % 2)


def test_what_comes_back_before_it_was_over_goes_on():
    assert [event for _, event, _ in events((0, 20, OLLAMA), (20 + CALM - 1, 60, OLLAMA))] == ["began", "over"]


def test_what_came_back_often_must_be_calm_for_longer_and_is_forgiven_after_an_hour():
    notices = Notices()
    first = events((0, 20, OLLAMA), until=100, notices=notices)[-1][0]
    second = events((200, 220, OLLAMA), until=300, notices=notices, start=200)[-1][0]
    late = events((9000, 9020, OLLAMA), until=9999, notices=notices, start=9000)[-1][0]
    assert (first, second, late) == (20 + CALM, 220 + 2 * CALM, 9020 + CALM)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 500), st.one_of(st.none(), st.integers(1, 200)), st.sampled_from([OLLAMA, MODEL, OTHER, WORKER, SERVICE])
        ),
        max_size=12,
    )
)  # fmt: skip
def test_whatever_happens_each_incident_begins_once_and_ends_once(scenes):
    notices = Notices()
    spans = [(begin, None if length is None else begin + length, trouble) for begin, length, trouble in scenes]
    told = [each for _, each in play(*spans, until=500 + 200 + 20 * LONGEST_CALM, notices=notices)]

    began = [each.incident for each in told if each.event == "began"]
    assert began == list(range(1, len(began) + 1))
    assert sorted(each.incident for each in told if each.event == "over") == began


@pytest.mark.parametrize("gap", [0.0, 1.0, 30.0])
def test_thirty_faults_are_thirty_incidents_each_told_and_over_within_half_a_minute(gap):
    """Each of another kind than the last, a few minutes apart, and over after ten seconds."""
    kinds = [OLLAMA, MODEL, WORKER, Trouble("config", "A reload was refused"), Trouble("log stdout", "cannot write")]
    scenes = [(n * (1200 + gap), n * (1200 + gap) + 10, kinds[n % 5]) for n in range(30)]
    told = events(*scenes, until=40_000)

    for begin, end, trouble in scenes:
        mine = [(at, event) for at, event, title in told if begin <= at <= end + 30 and trouble.words in title]
        assert [event for _, event in mine] == ["began", "over"], (begin, trouble)
        assert mine[0][0] - begin <= 30
    assert len(told) == 60
