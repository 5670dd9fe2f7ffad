"""The status page in a real browser."""

import os
import re
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from browser import CHROMIUM, browsing
from ccproxy_supervisor.edge.page import page as made
from daemon import ROOT, Daemon
from sample_status import document
from status_server import Said, answering

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="no Chromium; Debian's package: chromium"),
]
#: `CCPROXY_PICTURES=docs/pictures` renews the pictures of the documentation.
PICTURES = Path(os.environ.get("CCPROXY_PICTURES") or ROOT / ".cache" / "pictures")
WORD = "document.getElementById('word').textContent"
SHOWN = "!document.getElementById('main').hidden"


@pytest.fixture(scope="module")
def browser():
    with browsing() as it:
        yield it


@pytest.fixture
def tab(browser):
    with browser.tab() as tab:
        yield tab


@pytest.fixture
def said():
    return Said(document(time.time()), made())


@pytest.fixture
def page(tab, said):
    """The page with the sample document, on a desktop by day."""
    tab.size(1000, 800)
    tab.media(prefers_color_scheme="light")
    with answering(said) as port:
        tab.open(f"http://127.0.0.1:{port}/")
        tab.until(SHOWN)
        yield tab


def test_everything_is_there_and_the_browser_has_nothing_to_complain_about(page, said):
    text = page.text()
    for fact in (
        "Degraded", "2 of 2 workers serving", "generation 3", "127.0.0.1:8081", "/Users/eva/ccproxy",
        "Ollama does not have qwen3-coder:30b", "Slot 0", "Slot 1", "5731", "391 MiB", "42 %", "standby",
        "was killed by SIGKILL after 2 h", "stopped answering its probes", "1 more ended as planned",
        "claude-fallback", "not asked", "0.12.3", "llama3.2:3b · loaded", "rolled", "SIGHUP", "1.106.2", "the canary does not answer",
    ):  # fmt: skip
        assert fact.lower() in text.replace("\xa0", " ").lower(), fact
    assert page.run("document.title") == "! degraded \N{EN DASH} ccproxy"
    assert page.complaints() == []
    assert page.asked_for() == {"/", "/status"}


def test_what_went_through_is_told_by_model_and_on_demand_by_client(page, said):
    rows = (
        "[...document.querySelectorAll('#passed tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    shown = {name: cells for name, *cells in page.run(rows)}
    assert shown["llama3.2"][:2] == ["3", "98"]
    assert [cell.replace("\xa0", " ") for cell in shown["llama3.2"][3:6]] == ["300 ms / 1.5 s", "42", "2,352"]
    assert shown["qwen3-coder"][6].endswith("46")
    assert "build-agents" not in page.text()
    page.run("document.querySelector('#traffic summary').click()")
    assert "build-agents" in page.text()
    said.document = document(time.time(), traffic={"in_flight": 0, "models": [], "clients": []})
    page.wait(12)
    assert page.run("document.getElementById('traffic').hidden")


def test_it_renews_itself(page, said):
    said.document = document(time.time(), status="healthy", reasons=[], generation=4)
    page.wait(12)
    assert page.run(WORD) == "healthy"
    assert "generation 4" in page.text()


def test_a_young_daemon_shows_what_there_is_of_its_day(page, said):
    said.document["history"]["service"] = [{"at": said.document["history"]["service"][-1]["at"], "state": "healthy"}]
    said.document["history"]["slots"] = {}
    page.wait(12)
    assert page.run("document.getElementById('h-day').textContent") == "Last hour"
    left = page.run("document.querySelector('.run').getBoundingClientRect().left")
    bar = page.run("(({left, width}) => [left, width])(document.querySelector('.bar').getBoundingClientRect())")
    assert abs((left - bar[0]) / bar[1] - 0.6) < 0.01  # 24 minutes ago


def test_a_silent_daemon_is_shown_as_such_asked_ever_less_and_found_again(tab, said):
    with answering(said) as port:
        tab.open(f"http://127.0.0.1:{port}/")
        tab.until(SHOWN)
    tab.wait(12)  # two rounds: the first may have begun before the page's clock was ours
    tab.until(f"{WORD} === 'not answering'")
    assert "The daemon does not answer: no connection." in tab.text()
    assert "What is below is from" in tab.text()
    tab.wait(300)
    assert tab.run("failures") < 11
    with answering(said, port=port):
        tab.wait(122)
        tab.until(f"{WORD} === 'degraded'")
        assert "The daemon does not answer" not in tab.text()


@pytest.mark.parametrize("answer", [[], {"status": "healthy"}, {"status": None, "workers": 3}])
def test_an_answer_of_another_version_says_so_instead_of_failing(page, said, answer):
    said.document = answer
    page.wait(12)
    assert "cannot show the daemon's answer" in page.text()


def test_a_hidden_page_asks_nothing(page, said):
    page.wait(1)  # for what it has asked already
    page.run("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.run("document.dispatchEvent(new Event('visibilitychange'))")
    asked = said.asked
    page.wait(120)
    assert said.asked == asked
    page.run("delete document.hidden")
    page.run("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait(1)
    assert said.asked == asked + 1


def test_what_the_daemon_says_is_text_and_never_markup(page, said):
    evil = "<img src=x onerror=hacked=1><script>hacked=1</script>"
    said.document = document(
        time.time(), detail=evil, home=evil, last_incident=f"2026-11-23T08:00:00Z {evil}", reasons=[evil],
        models=[{"name": evil, "healthy": False, "checked": None, "detail": evil}],
    )  # fmt: skip
    page.wait(12)
    assert page.text().count("onerror=hacked=1") >= 5
    assert page.run("document.querySelectorAll('img, main script').length") == 0
    assert page.run("window.hacked") is None


def test_the_policy_lets_no_other_script_or_style_in(page):
    assert page.run(
        "(() => { try { const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        " document.head.append(s) } catch (e) {} return window.hacked })()"
    ) is None  # fmt: skip
    page.run("document.body.setAttribute('style', 'opacity: 0.1')")
    assert page.run("getComputedStyle(document.body).opacity") == "1"


def test_without_javascript_it_leads_to_the_facts(tab, said):
    tab.ask("Emulation.setScriptExecutionDisabled", value=True)
    with answering(said) as port:
        tab.open(f"http://127.0.0.1:{port}/")
        text = tab.text()
    assert "needs JavaScript" in text
    assert "/status" in text


@pytest.mark.parametrize("width", [320, 1000])
def test_a_screen_reader_finds_landmarks_headings_tables_and_the_status(page, width):
    page.size(width, 700)
    nodes = [node for node in page.ask("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node]
    roles = {role for role, _ in found}
    assert {"banner", "main", "contentinfo", "status", "heading", "table", "row", "cell", "columnheader"} <= roles
    named = [name for role, name in found if role == "region"]
    assert named == ["Last 24 hours", "Traffic", "Workers", "Incidents", "Models", "Ollama", "Last reload", "LiteLLM"]
    assert ("table", "Workers") in found
    assert ("columnheader", "Last ending") in found
    bars = [name for role, name in found if role in ("image", "img")]
    assert [bar.partition(":")[0] for bar in bars] == ["Service", "Slot 0", "Slot 1"]
    assert "unhealthy 24 min" in bars[0].replace("\xa0", " ")
    assert page.run("document.querySelectorAll('[aria-live]').length") == 1


def test_a_keyboard_reaches_everything_and_one_sees_where_it_is(page):
    page.run("document.body.focus()")
    seen = []
    for _ in range(6):
        page.press("Tab")
        seen.append(page.run("document.activeElement.textContent"))
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert seen[:3] == ["Every change as a table", "By client", "Its last words"]
    assert seen[3:6] == ["/status", "/health", "/metrics"]


def test_an_opened_last_word_stays_open_when_the_page_renews_itself(page, said):
    page.run("document.querySelector('#incidents details').open = true")
    assert "MemoryError" in page.text()
    page.wait(12)
    assert "MemoryError" in page.text()


def test_a_renewal_takes_neither_the_focus_nor_a_selection_and_opens_no_other_last_words(page, said):
    page.run("window.focused = document.querySelector('#incidents summary')")
    page.run("focused.focus(), focused.parentElement.open = true")
    page.run("getSelection().selectAllChildren(document.querySelector('#models tbody td'))")
    selected = page.run("getSelection().toString()")
    said.document |= {"generation": 4, "uptime": 20 * 3600 + 60}
    newest = said.document["history"]["endings"][-1]
    said.document["history"]["endings"].append(
        newest | {"at": "2099-01-01T00:00:00Z", "worker": 9, "told": "Worker 9 met its end."}
    )
    page.wait(12)
    assert "generation 4" in page.text()
    assert "Worker 9 met its end." in page.run("document.querySelector('#incidents li').textContent")
    assert page.run("document.activeElement === focused")
    assert page.run("[...document.querySelectorAll('#incidents details')].map((each) => each.open)") == [False, True]
    assert page.run("getSelection().toString()") == selected == "echo"


def test_what_is_gone_or_not_recorded_is_not_drawn_as_a_fault(page, said):
    slots = said.document["history"]["slots"]
    slots["1"][-2:] = [slots["1"][-2] | {"state": "unknown"}, slots["1"][-1] | {"state": "gone"}]
    page.wait(12)
    looks = page.run(
        "[...document.querySelectorAll('.track:last-child .run')].map((e) => [e.className, getComputedStyle(e).backgroundImage"
        " + getComputedStyle(e).backgroundColor])"
    )
    assert looks[-2:] == [["run none", "nonergba(0, 0, 0, 0)"]] * 2
    label = page.run("document.querySelector('.track:last-child .bar').ariaLabel")
    assert "not recorded" in label
    assert "gone" in label


def test_a_gap_says_how_long_it_was_where_there_is_room(page, said):
    now = time.time()
    ago = [(20, "healthy"), (14, "unknown"), (8, "down"), (7.9, "healthy"), (7, "down"), (2, "healthy")]
    said.document["history"]["service"] = [
        {"at": f"{datetime.fromtimestamp(now - hours * 3600, UTC):%Y-%m-%dT%H:%M:%SZ}", "state": state}
        for hours, state in ago
    ]
    page.wait(12)
    told = page.run("[...document.querySelectorAll('.track:first-child .run')].map((e) => e.textContent)")
    assert [text.replace("\xa0", " ") for text in told] == ["", "6 h", "", "", "5 h", ""]
    inside = "[...document.querySelectorAll('.long')].every((e) => e.offsetWidth <= e.parentElement.offsetWidth)"
    assert page.run(inside)


def test_nothing_is_cut_off_on_the_smallest_phone(page):
    page.size(320, 640, phone=True)
    page.run("document.querySelectorAll('details').forEach((each) => each.open = true)")
    assert page.run("document.documentElement.scrollWidth") == 320
    wide = "[...document.querySelectorAll('body *:not(thead, thead *, caption)')].filter((e) => e.getBoundingClientRect().right > 320.5)"
    assert page.run(f"{wide}.map((e) => e.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_bars_stand_out_from_what_is_behind_them(page, scheme):
    page.media(prefers_color_scheme=scheme)
    names = ("page", "card", "ink", "dim", "link", "good", "busy", "bad", "calm")
    names += ("good-bar", "busy-bar", "bad-bar", "calm-bar")
    style = "getComputedStyle(document.documentElement)"
    colours = {name: page.run(f"{style}.getPropertyValue('--{name}')") for name in names}
    for name in names[2:]:
        behind = ("card",) if "-bar" in name else ("page", "card")
        least = min(contrast(colours[name], colours[back]) for back in behind)
        assert least >= (3 if "-bar" in name else 4.5), (name, least)


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour):
    digits = re.sub("^#(.)(.)(.)$", r"#\1\1\2\2\3\3", colour.strip())[1:]
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_what_is_out_of_date_neither_fades_nor_moves(page):
    page.run("document.body.classList.add('stale')")
    fades = "(({opacity, filter, transitionDuration}) => `${opacity} ${filter} ${transitionDuration}` !== '1 none 0s')"
    assert page.run(f"[...document.querySelectorAll('*')].filter((e) => {fades}(getComputedStyle(e))).length") == 0
    assert page.run("getComputedStyle(document.querySelector('section')).borderTopStyle") == "dashed"


def test_it_shows_a_real_daemon_through_a_death_and_its_end(tab):
    with Daemon(proxy={"workers": 1, "standby": 1}) as daemon:
        daemon.start()
        tab.open(daemon.admin_url + "/")
        tab.until(SHOWN)
        os.kill(daemon.pids()[0], signal.SIGKILL)
        daemon.until(lambda status: status["status"] == "healthy" and status["history"]["endings"])
        tab.wait(12)
        tab.until(f"{WORD} === 'healthy' && document.body.innerText.includes('was killed by SIGKILL')")
        assert tab.complaints() == []
        daemon.end()
        tab.wait(12)
        tab.until(f"{WORD} === 'not answering'")


def test_pictures_for_the_documentation(browser, page):
    page.picture(PICTURES / "status-page-light.png")
    page.media(prefers_color_scheme="dark")
    page.picture(PICTURES / "status-page-dark.png", whole=False)
    page.media(prefers_color_scheme="light")
    page.size(390, 844, phone=True)
    page.picture(PICTURES / "status-page-phone.png", whole=False)
    with browser.tab() as tab:
        tab.size(1080, 490)
        frame = tab.ask("Page.getFrameTree")["frameTree"]["frame"]["id"]
        tab.ask("Page.setDocumentContent", frameId=frame, html=terminal())
        tab.picture(PICTURES / "status-terminal.png", whole=False)
    assert len({picture.read_bytes() for picture in PICTURES.glob("status-*.png")}) == 4


def terminal():
    """`status` on a terminal, as a picture for a browser."""
    from rich.console import Console

    from ccproxy_supervisor.view.sheet import sheet
    from ccproxy_supervisor.view.table import table

    now = time.time()
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=108, file=nowhere, force_terminal=True, highlight=False)
        console.print(table(sheet(document(now), now), 108))
    drawn = console.export_svg(title="ccproxy-supervisor status")
    return "<body style='margin:0'>" + re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
