"""The page in a browser: what is used does what it says, and what a model answered does nothing."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.report import hostile
from tests.report.conftest import Open


@pytest.fixture
def page(opened: Open, hostile_report: Path) -> Page:
    return opened(hostile_report).page


def place(page: Page) -> str:
    return page.locator("#reader-place").inner_text()


def row(page: Page) -> str:
    return page.locator("#reader-row").inner_text()


def test_nothing_that_a_model_answered_runs(opened: Open, hostile_report: Path) -> None:
    found = opened(hostile_report)
    page = found.page
    seen = ""
    for table in range(page.locator("#reader-table option").count()):
        page.select_option("#reader-table", str(table))
        count = page.locator("#reader-list button").count()
        page.locator("#reader-row").focus()
        for _ in range(min(count, 30)):
            seen += page.locator("#reader-row").text_content() or ""
            page.keyboard.press("j")
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    for button in page.locator(".legend button").all():
        button.click()
    page.locator(".map svg[role]").hover()
    page.locator(".alike button").first.click()
    for text in hostile.ANSWERS[2:7]:  # they were shown, as the texts they are
        assert re.split("[\u2028\n]", text)[0] in seen
    assert page.evaluate("window.canary") is None
    assert page.locator("img, iframe, object, embed, link, main script").count() == 0
    assert found.troubles == []


def test_the_policy_stops_what_would_get_into_the_page(opened: Open, hostile_report: Path) -> None:
    page = opened(hostile_report).page
    violated = page.evaluate(
        """() => new Promise(done => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', event => {
                seen.push(event.effectiveDirective);
                if (new Set(seen).size === 3) done([...new Set(seen)].sort());
            });
            document.body.insertAdjacentHTML('beforeend',
                '<img src="data:image/png;base64,x" onerror="window.canary=1"><b style="color:red">x</b>' +
                '<button onclick="window.canary=1" id="trap">x</button>');
            document.getElementById('trap').click();
        })"""
    )
    assert violated == ["img-src", "script-src-attr", "style-src-attr"]
    assert page.evaluate("window.canary") is None


def test_the_reader_pages_and_shows_the_whole_lineage(page: Page) -> None:
    assert place(page) == "1 of 12"
    shown = row(page)
    for told in (
        "key </script>2",
        "Drawn tell.tone",
        "Asked tell.answer",
        "Prompt as sent: 1 message, 26 characters",
        "Tell number 2, <i>loud</i>",
        '"><img src=x onerror="window.canary=1">',
        "100 tokens in · 50 out · $0.000200",
        "synth:15",
        "Prompt drawn change.current round 1",
    ):
        assert told in shown
    page.click("text=Reasoning: 14 characters")
    assert page.locator("#reader-row details[open]", has_text="<b>because</b>").count() == 1
    page.click("#reader-next")
    assert place(page) == "2 of 12"
    assert "not yet" in row(page)
    assert "asked again (1)" in row(page)
    page.click("#reader-previous")
    assert place(page) == "1 of 12"
    assert page.locator("#reader-previous").is_disabled()
    page.click("#reader-list li:nth-child(12) button")
    assert place(page) == "12 of 12"
    assert page.locator("#reader-next").is_disabled()
    assert "failed" in row(page)


def test_a_row_of_another_table_has_what_happened_before_it_came_there(page: Page) -> None:
    page.select_option("#reader-table", label='it\'s "<b>parts</b>" (64)')
    assert "Asked tell.answer in told" in row(page)
    assert "the first, and others" not in page.locator("#reader-sample").inner_text()


def test_the_filter_and_the_status_choose_rows(page: Page) -> None:
    page.fill("#reader-filter", "GNORW shown")
    assert place(page) == "1 of 1"
    assert "shown \\u202egnorw\\u202c and hid\\u200bden" in row(page)
    page.fill("#reader-filter", "there is no such word")
    assert (place(page), row(page)) == ("none", "No row is like that")
    page.fill("#reader-filter", "")
    for status, count in (("kept", 8), ("failed", 3), ("dropped", 1), ("trouble", 3)):
        page.select_option("#reader-status", status)
        assert place(page) == f"1 of {count}"
    page.select_option("#reader-status", "failed")
    texts = [row(page)]
    while page.locator("#reader-next").is_enabled():
        page.click("#reader-next")
        texts.append(row(page))
    assert len(texts) == 3
    assert any("http_400" in text and "the row stopped" in text for text in texts)


def test_a_long_text_is_cut_and_says_so(page: Page, hostile_report: Path) -> None:
    page.click("#reader-list li:nth-child(7) button")
    assert "cut: the first 20,000 of 10,000,000 characters" in row(page)
    assert hostile_report.stat().st_size < 1_000_000


def test_the_reader_is_used_by_keys_alone(page: Page) -> None:
    page.locator("#reader-row").focus()
    for key, told in (
        ("j", "2"), ("ArrowRight", "3"), ("k", "2"), ("ArrowLeft", "1"), ("k", "1"),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert place(page) == f"{told} of 12"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "reader-filter"
    page.keyboard.type("jk")
    assert page.input_value("#reader-filter") == "jk"
    page.fill("#reader-filter", "")
    page.locator("#reader-list button[aria-current]").focus()
    page.keyboard.press("ArrowDown")
    assert place(page) == "2 of 12"
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"


def test_the_map_is_read_by_pointer_and_by_keys(page: Page) -> None:
    svg = page.locator(".map svg[role]")
    circles = page.locator(".map svg[role] circle")
    expect(circles).to_have_count(8)
    assert page.locator(".legend button").all_inner_texts() == ["<b>even</b>", "odd"]
    page.click(".legend button >> text=odd")
    assert page.locator(".map circle.away").count() == 3
    page.click(".legend button >> text=odd")
    assert page.locator(".map circle.away").count() == 0
    circles.first.hover()
    pointed = page.locator(".map .told").inner_text()
    assert "row " in pointed
    svg.focus()
    seen = {pointed}
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
        seen.add(page.locator(".map .told").inner_text())
    assert len(seen) > 3
    at = page.locator(".map .told button").inner_text()
    page.keyboard.press("Enter")
    assert f"likes {at}," in row(page)
    assert page.evaluate("document.activeElement.id") == "reader-row"


def test_rows_that_are_alike_open_in_the_reader(page: Page) -> None:
    button = page.locator(".alike button").nth(1)
    at = button.inner_text()
    button.click()
    assert f"likes {at}," in row(page)


def test_what_is_focused_is_seen_and_everything_is_reached(page: Page) -> None:
    reached, unseen = 0, []
    page.evaluate("document.body.focus()")
    for _ in range(100):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => { const e = document.activeElement;
                if (e === document.body || e.dataset.reached) return null;
                e.dataset.reached = 'yes';
                return [getComputedStyle(e).outlineStyle !== 'none', e.outerHTML.slice(0, 60)] }"""
        )
        if found:
            reached += 1
            unseen += [] if found[0] else [found[1]]
    wanted = page.evaluate(
        """() => [...document.querySelectorAll('a, button, select, input, summary, [tabindex="0"]')]
            .filter(e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility()).length"""
    )
    assert (reached, unseen) == (wanted, [])


@pytest.mark.parametrize("width", [400, 900, 1600])
def test_the_page_is_no_wider_than_its_window(
    opened: Open, hostile_report: Path, width: int
) -> None:
    page = opened(hostile_report, width).page
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_colours_follow_the_system_and_can_be_read(opened: Open, hostile_report: Path) -> None:
    for scheme, dark in (("light", False), ("dark", True)):
        page = opened(hostile_report, scheme=scheme).page
        least = page.evaluate(
            """() => {
                const light = text => {
                    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
                        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
                };
                const behind = e => { const c = getComputedStyle(e).backgroundColor;
                    return c === 'rgba(0, 0, 0, 0)' ? behind(e.parentElement) : c };
                let least = [99, ''];
                for (const e of document.querySelectorAll('body *')) {
                    if (!e.checkVisibility() || e.closest('svg, :disabled')
                        || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
                    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
                    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                    if (contrast < least[0]) least = [contrast, e.outerHTML.slice(0, 80)];
                }
                return least;
            }"""
        )
        assert least[0] >= 4.5, (scheme, least)  # WCAG 2.2, AA
        body = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(body[4:].split(",")[0]) < 60) == dark


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    assert page.locator("main, header, nav, footer").count() == 4
    assert page.locator("h1").count() == 1
    levels = page.eval_on_selector_all("h1, h2, h3, h4, h5", "all => all.map(e => +e.tagName[1])")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    bare = page.evaluate(
        """() => [
            ...[...document.querySelectorAll('table')].filter(e => !e.caption || !e.caption.innerText),
            ...[...document.querySelectorAll('svg')].filter(e => e.ariaHidden !== 'true'
                && !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby'))),
            ...[...document.querySelectorAll('input, select')].filter(e => !e.labels.length),
            ...[...document.querySelectorAll('[role=region], nav')].filter(e => !e.ariaLabel),
            ...[...document.querySelectorAll('[aria-labelledby]')].filter(e =>
                e.getAttribute('aria-labelledby').split(' ').some(id => !document.getElementById(id))),
            ...[...document.querySelectorAll('a[href^="#"]')].filter(e =>
                !document.getElementById(decodeURIComponent(e.hash.slice(1)))
                && !document.getElementById(e.hash.slice(1))),
            ...[...document.querySelectorAll('[id]')].filter(e =>
                document.querySelectorAll('#' + CSS.escape(e.id)).length > 1),
        ].map(e => e.outerHTML.slice(0, 100))"""
    )
    assert bare == []


def test_on_paper_there_are_no_controls(page: Page) -> None:
    page.emulate_media(media="print")
    for gone in ("nav", ".controls", "#reader-list", ".keys"):
        assert not page.locator(gone).first.is_visible()
    for there in ("#overview", "#reader-row", "#failures", "#costs"):
        assert page.locator(there).is_visible()


def test_without_scripts_all_but_the_reader_and_the_maps_is_there(
    opened: Open, hostile_report: Path
) -> None:
    found = opened(hostile_report, java_script_enabled=False)
    text = found.page.locator("main").inner_text()
    for told in (
        "3,900",
        "violated",
        "asks teller for tell.answer",
        "bad_answer",
        "needs JavaScript",
    ):
        assert told in text
