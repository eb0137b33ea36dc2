"""The page in Chromium: a file is dropped, clips are drawn, bars move forward, results come; errors are in plain words."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutmv.kit import Served
from kit.chromium import chromium, expect, needs_chromium, page_of

pytestmark = needs_chromium
SCREENSHOTS = os.environ.get("CUTMV_SCREENSHOTS")
"""A folder for the README's pictures."""


STILL_S_MAX = 60.0
EXPECTED = ("Failed to load resource", "WebSocket connection")
"""What was refused, and a server that was away."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    with page_of(browser, served.url, (920, 1000), expected=EXPECTED) as opened:
        yield opened


def shoot(page: Any, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"), full_page=True)


def bars(page: Any) -> dict[str, float]:
    """Every bar of the newest order, by its name, and the order's own."""
    script = "cards => [...(cards[0]?.querySelectorAll('progress') ?? [])].map(bar => [bar.ariaLabel, bar.value])"
    return dict(page.eval_on_selector_all(".order", script))


def test_a_video_is_cut_in_the_browser(page: Any, film: Path) -> None:
    expect(page.locator("#live")).to_have_text("live")
    page.set_input_files("#file", str(film))
    expect(page.locator("#cut")).to_be_visible()
    expect(page.locator("#strip img")).to_have_count(10)
    box = page.locator("#marks").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 20)  # a clip drawn on the timeline
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=8)
    page.mouse.up()
    expect(page.locator("#clips li")).to_have_count(2)
    assert float(page.get_by_label("Clip 2 from, seconds").input_value()) == pytest.approx(24, abs=0.5)
    start = page.get_by_label("Clip 1 from, seconds")
    start.focus()
    page.keyboard.press("Shift+ArrowUp")
    assert float(start.input_value()) == 1
    for name in ("GIF", "Thumbnails"):
        page.get_by_label(name, exact=True).check()
    page.get_by_label("GIF", exact=True).uncheck()
    page.get_by_label("WebM").check()
    page.get_by_role("button", name="Cut it").press("Enter")
    watch_it_end(page)
    expect(page.locator(".pictures img")).to_have_count(8)
    expect(page.locator(".outputs a")).to_have_count(4)
    page.wait_for_function(
        "[...document.querySelectorAll('.pictures img')].every(each => each.complete && each.naturalWidth > 0)"
    )
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all (zip)").click()
    assert download.value.suggested_filename.endswith(".zip")
    shoot(page, "done")
    page.emulate_media(color_scheme="dark")
    shoot(page, "done-dark")
    page.reload()
    expect(page.locator(".state")).to_have_text("done")
    expect(page.locator("#cut")).to_be_visible()


def watch_it_end(page: Any) -> None:
    """Bars go forward only, and something moves at least every second while it works: on a calm machine, where
    `CUTMV_SLOWER_S=0` says so; on others it never stands still for long."""
    last: dict[str, float] = {}
    moved, longest, was_shot = time.monotonic(), 0.0, False
    while page.locator(".state").first.inner_text() != "done":
        now = bars(page)
        for name, value in now.items():
            assert value >= last.get(name, 0.0), f"{name} went back"
        if now != last:
            if any(last.values()):
                longest = max(longest, time.monotonic() - moved)
            moved, last = time.monotonic(), now
        assert time.monotonic() - moved < STILL_S_MAX
        if not was_shot and any(0.2 < value < 0.9 for name, value in now.items() if name.endswith(".webm")):
            was_shot = True
            shoot(page, "working")
            said = page.locator(".left").first.inner_text()
            assert "left" in said or page.locator(".state").first.inner_text() == "done"
        page.wait_for_timeout(50)
    assert longest < 1.0 + float(os.environ.get("CUTMV_SLOWER_S", "30")), "on a machine that does other things too"


def test_a_page_is_told_in_plain_words(page: Any, tmp_path: Path, film: Path) -> None:
    text = tmp_path / "holiday.mp4"
    text.write_text("<html><script>alert(1)</script></html>" * 50)
    page.set_input_files("#file", str(text))
    expect(page.locator("#upload-error")).to_contain_text("not a video or sound file")
    page.get_by_role("button", name="Another file").click()
    page.set_input_files("#file", str(film))
    expect(page.locator("#cut")).to_be_visible()
    page.get_by_label("Clip 1 to, seconds").fill("0")
    page.get_by_role("button", name="Cut it").click()
    expect(page.locator("#wish-error")).to_have_text("Clip 1 must lie within the video, and end after it starts.")


def test_cancel_and_another_try(page: Any, film: Path) -> None:
    page.set_input_files("#file", str(film))
    expect(page.locator("#cut")).to_be_visible()
    page.get_by_label("Clip 1 to, seconds").fill("60")
    page.get_by_label("WebM").check()
    page.get_by_label("MP4").uncheck()
    page.locator("select[name=quality]").select_option("high")
    page.get_by_role("button", name="Cut it").click()
    expect(page.locator(".state")).to_have_text("working")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state")).to_have_text("cancelled")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".state")).to_have_text("working")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state")).to_have_text("cancelled")


def test_a_page_comes_back_after_its_server_was_away(page: Any, served: Served, film: Path) -> None:
    page.set_input_files("#file", str(film))
    expect(page.locator("#cut")).to_be_visible()
    page.get_by_label("Clip 1 to, seconds").fill("30")
    page.get_by_role("button", name="Cut it").click()
    expect(page.locator(".order")).to_have_count(1)
    served.stop(signal.SIGKILL)  # to end its work first takes ten seconds, and is what faults/test_restarts.py sees
    expect(page.locator("#live")).to_have_text("reconnecting …")
    served.start()
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator(".state")).to_have_text("done")
