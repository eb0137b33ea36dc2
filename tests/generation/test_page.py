"""The page in Chromium: a prompt becomes a video that plays; lines, failures, cancels and absences in plain words."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from generation.served import Served
from kit.chromium import PATIENCE_MS, chromium, expect, needs_chromium, page_of

pytestmark = needs_chromium
EXPECTED = ("Failed to load resource",)
"""What was refused on purpose, and a server that was away."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    with page_of(browser, served.url, (1080, 900), expected=EXPECTED) as opened:
        expect(opened.locator("#live")).to_have_text("live")
        yield opened


def card(page: Any, prompt: str) -> Any:
    return page.locator(".generation", has_text=prompt)


def state(page: Any, prompt: str, kind: str) -> None:
    expect(card(page, prompt)).to_have_attribute("data-state", kind)


def ask_for(page: Any, prompt: str) -> None:
    page.locator("#prompt").fill(prompt)
    page.keyboard.press("Control+Enter")
    expect(card(page, prompt)).to_have_count(1)


def test_a_prompt_becomes_a_video_that_plays(page: Any) -> None:
    page.keyboard.type("A fern unrolls")  # the prompt has the focus
    page.get_by_label("9:16").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Make the video").press("Enter")
    fern = card(page, "A fern unrolls")
    shown: list[float] = []
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while fern.get_attribute("data-state") != "done":
        bar = fern.locator("progress")
        if bar.count() and bar.is_visible():
            shown.append(bar.evaluate("bar => bar.value"))
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)
    assert shown == sorted(shown), "progress never goes back"
    assert "9:16" in fern.locator(".facts").inner_text()
    assert "made in" in fern.locator(".times").inner_text()
    fern.get_by_role("button", name="Play").click()
    expect(fern.locator("video")).to_have_js_property("paused", False)
    page.wait_for_function(
        "video => 0 < video.videoWidth && video.videoWidth < video.videoHeight",
        arg=fern.locator("video").element_handle(),
    )
    with page.expect_download() as download:
        fern.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".mp4")
    page.reload()
    state(page, "A fern unrolls", "done")


def test_a_refusal_is_in_plain_words_and_may_be_tried_again(page: Any) -> None:
    page.get_by_role("button", name="Make the video").click()
    expect(page.locator("#wish-error")).to_have_text("Describe the video first.")
    prompt = "Something #unsafe <img src=x onerror=alert(1)>"
    tab = page.context.new_page()
    tab.goto(page.url)
    expect(tab.locator("#live")).to_have_text("live")
    ask_for(page, prompt)
    expect(card(tab, prompt)).to_have_count(1)
    tab.close()
    state(page, prompt, "failed")
    expect(card(page, prompt).locator(".error")).to_contain_text("for reasons of safety")
    expect(card(page, prompt).locator("img")).to_have_count(0)
    card(page, prompt).get_by_role("button", name="Try again").click()
    expect(card(page, prompt)).to_have_count(2)
    card(page, prompt).first.get_by_role("button", name="Use this prompt").click()
    expect(page.locator("#prompt")).to_have_value(prompt)


def test_the_line_moves_and_one_may_leave_it(page: Any, served: Served) -> None:
    def headline(prompt: str, text: str) -> None:
        expect(card(page, prompt).locator(".headline")).to_have_text(text)

    with served.resting():
        for prompt in ("First in the row", "Second in the row"):
            ask_for(page, prompt)
        headline("First in the row", "Next in the line")
        headline("Second in the row", "2nd in the line")
        page.get_by_label("VIP").check()
        ask_for(page, "A lady of importance")
        headline("A lady of importance", "Next in the line")
        headline("Second in the row", "3rd in the line")
        for prompt, left in (("First in the row", "2nd in the line"), ("A lady of importance", "Next in the line")):
            card(page, prompt).get_by_role("button", name="Cancel").click()
            state(page, prompt, "cancelled")
            headline("Second in the row", left)
        card(page, "Second in the row").get_by_role("button", name="Cancel").click()
        state(page, "Second in the row", "cancelled")


@pytest.mark.campaign
def test_a_page_comes_back_after_its_server_was_away(page: Any, served: Served) -> None:
    with served.resting():  # the sandbox goes with its server, and forgets what it was at
        ask_for(page, "Kept in the meantime")
        served.stop()
        expect(page.locator("#live")).to_have_text("reconnecting …")
        page.locator("#prompt").fill("Too early")
        page.get_by_role("button", name="Make the video").click()
        expect(page.locator("#wish-error")).to_contain_text("The server cannot be reached.")
        expect(page.locator("#prompt")).to_have_value("Too early")
        served.start()
        expect(page.locator("#live")).to_have_text("live")
    state(page, "Kept in the meantime", "done")


@pytest.mark.skipif("GENERATION_SCREENSHOTS" not in os.environ, reason="they are the README's pictures")
def test_pictures_for_the_readme(browser: Any, tmp_path: Path) -> None:
    folder = Path(os.environ["GENERATION_SCREENSHOTS"])
    prompts = (
        "A paper boat crosses a puddle after the rain, close to the water, evening light",
        "Steam rises from a cup beside a window, snow outside",
        "A lighthouse in fog, the lamp turning slowly",
        "A cat sorts letters in a post office, seen from above",
        "Sheets on a line in the wind, hills behind them",
    )
    with Served(tmp_path / "pictures", SANDBOX_GENERATION_S="4", GENERATION_DISPATCH="alarm") as served:
        page = browser.new_page(viewport={"width": 1060, "height": 900})
        page.goto(served.url)
        for prompt in prompts:
            ask_for(page, prompt)
        state(page, prompts[1], "done")
        state(page, prompts[2], "running")
        page.wait_for_timeout(2_000)
        page.screenshot(path=folder / "generation-working.png", full_page=True)
        page.emulate_media(color_scheme="dark")
        for prompt in prompts:
            state(page, prompt, "done")
        page.wait_for_timeout(1_000)
        page.screenshot(path=folder / "generation-dark.png", full_page=True)
