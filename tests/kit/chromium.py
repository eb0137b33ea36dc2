"""Chromium for the tests of pages, with the patience of a machine that does other things too: one for each module, since
Playwright keeps an event loop in the thread of the tests while it runs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make venv`")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 60_000
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
expect = playwright.expect
expect.set_options(timeout=PATIENCE_MS)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: `apt install chromium` runs these"
)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser for the length of the block."""
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE_MS)
        try:
            yield opened
        finally:
            opened.close()


@contextlib.contextmanager
def page_of(browser: Any, url: str, size: tuple[int, int], *, expected: Sequence[str]) -> Iterator[Any]:
    """A page of people who were never here, in light colours. In the end it has complained of nothing but what is
    expected, and has asked nobody else for anything."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
    problems: list[str] = []
    asked: list[str] = []
    try:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        yield page
    finally:
        context.close()
    assert [each for each in problems if not any(words in each for words in expected)] == []
    assert [each for each in asked if not each.startswith((url, "blob:", "data:"))] == [], (
        "nothing comes from elsewhere"
    )
