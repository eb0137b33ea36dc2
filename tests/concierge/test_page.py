"""The staff's page in Chromium: people sign in, write, review, export, look; by keys, in light and in dark."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from concierge.archivist import fill
from concierge.clinic import PASSWORD, clinic
from conveyor_apps.concierge import clock
from kit.chromium import chromium, expect, needs_chromium, page_of
from kit.postgres import free_port

pytestmark = needs_chromium
SCREENSHOTS = os.environ.get("CONCIERGE_SCREENSHOTS")
"""A folder for the README's pictures."""
WAIT_S = 90.0
ROWS = 400_000 if SCREENSHOTS else 60


async def _furnish(folder: Path) -> None:
    """People of every role, and messages of some days."""
    async with clinic(folder) as open_clinic:
        fill(open_clinic.room.database.path, ROWS, since=clock.now_ms() - 86_400_000)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a concierge is served, with its worker."""
    folder = tmp_path_factory.mktemp("concierge")
    with ThreadPoolExecutor(1) as aside:  # Playwright has a loop of its own here
        aside.submit(asyncio.run, _furnish(folder)).result()
    port = free_port()
    environment = {
        **os.environ, "CONVEYOR_URL": f"sqlite:///{folder}/conveyor.db", "CONCIERGE_DATA": str(folder / "data"),
        "CONVEYOR_TOKEN": "a-token-of-tests-" + "0" * 32, "CONVEYOR_PORT": str(port),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "conveyor", "serve", "conveyor_apps.concierge.served:app", "--port", str(port),
        "--processes", "1",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + WAIT_S
            while not _answers(url):
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(f"{url}/readyz", trust_env=False, timeout=60).status_code == 200
    return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with page_of(browser, address, (1180, 800), expected=("Failed to load resource",)) as opened:  # which was refused
        yield opened


def shoot(page: Any, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"))


def sign_in(page: Any, role: str) -> None:
    page.locator("#login").get_by_label("Name").fill(role)
    page.locator("#login [name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").press("Enter")
    expect(page.locator("#house")).to_be_visible()


def sections(page: Any) -> list[str]:
    return [each.strip().split("\n")[0].split(" ")[0] for each in page.locator("nav a:visible").all_inner_texts()]


def test_a_message_goes_from_its_author_to_a_reviewer(page: Any, address: str) -> None:
    shoot(page, "door")
    page.locator("#login").get_by_label("Name").fill("assistant")
    page.locator("#login [name=password]").fill("not it")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#login .error")).to_be_visible()
    sign_in(page, "assistant")
    assert sections(page) == ["Inbox", "Compose"]
    expect(page.locator("#messages li")).to_have_count(40)
    page.get_by_role("button", name="Show older ones").click()
    expect(page.locator("#messages li")).to_have_count(min(80, ROWS))
    page.keyboard.press("c")
    expect(page.locator("#letter").get_by_label("To", exact=True)).to_be_focused()
    page.keyboard.type("not an address")
    page.locator("#letter").get_by_label("Subject").fill("Your appointment on Monday")
    page.locator("#letter").get_by_label("Message").fill(
        "Dear Mia,\n\nplease come at 10:30, and bring <all> your papers."
    )
    assert not page.get_by_role("button", name="Send without review").is_visible()
    shoot(page, "compose")
    page.get_by_role("button", name="Hand in for review").click()
    expect(page.locator("#letter .error")).to_contain_text("recipient")
    expect(page.locator("#letter").get_by_label("To", exact=True)).to_be_focused()
    page.locator("#letter").get_by_label("To", exact=True).fill("mia@example.com")
    page.get_by_role("button", name="Hand in for review").click()
    detail = page.locator("#detail")
    expect(detail).to_contain_text("review")
    expect(detail.locator(".words")).to_have_text("Dear Mia,\n\nplease come at 10:30, and bring <all> your papers.")
    page.get_by_role("button", name="Edit").click()
    expect(page.locator("#letter [name=recipient]")).to_have_value("mia@example.com")
    page.locator("#letter [name=when]").select_option("later")
    page.get_by_role("button", name="Hand in for review").click()
    expect(page.locator("#letter .error")).to_have_text("Say when it is to go.")  # and it does not go at once
    page.get_by_role("button", name="Password").click()
    expect(page.get_by_label("Your password until now")).to_be_focused()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#door")).to_be_visible()
    assert "Mia" not in page.locator("#house").text_content()
    assert page.locator("#letter").evaluate("form => form.elements.recipient.value + form.elements.content.value") == ""

    sign_in(page, "clinician")
    expect(page.locator("#waiting")).to_have_text("1")
    page.keyboard.press("v")
    card = page.locator("#reviews article")
    expect(card).to_contain_text("please come at 10:30")
    shoot(page, "review")
    card.get_by_role("button", name="Send back").click()
    page.get_by_label("What should change?").fill("Say which Monday")
    page.get_by_role("button", name="Send back", exact=True).click()
    expect(card).to_have_count(0)
    page.keyboard.press("i")
    newest = page.locator("#messages button").first
    expect(newest).to_contain_text("draft")  # the list of before is there until the new one comes
    page.keyboard.press("j")
    expect(newest).to_be_focused()
    page.keyboard.press("Enter")
    expect(detail.locator(".history")).to_contain_text("Say which Monday")
    page.mouse.move(0, 0)
    shoot(page, "inbox")
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()


def test_an_export_shows_its_progress_and_comes_down(page: Any, address: str) -> None:
    page.emulate_media(color_scheme="dark")
    sign_in(page, "admin")
    assert sections(page) == ["Inbox", "Review", "Compose", "Exports", "Audit", "Holds", "Queue", "People"]
    page.keyboard.press("e")
    if SCREENSHOTS:
        page.locator("#wish [name=dataset]").select_option("audit")
        page.get_by_role("button", name="Export", exact=True).click()
        expect(page.locator("#files article").first).to_contain_text("SHA-256")
        page.locator("#wish [name=dataset]").select_option("messages")
    page.locator("#wish").get_by_label("State").select_option("delivered")
    page.get_by_role("button", name="Export", exact=True).click()
    card = page.locator("#files article").first
    if SCREENSHOTS:
        expect(card.locator(".count-of")).to_have_text(re.compile("[1-9][0-9,]* of 380,000 rows"))
        page.mouse.move(0, 0)
        shoot(page, "exports-dark")
    expect(card).to_contain_text(f"{ROWS * 19 // 20:,} rows, ")
    with page.expect_download() as download:
        card.get_by_role("button", name="Download").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == ROWS * 19 // 20 + 1
    assert lines[0].startswith("id,channel,recipient")
    page.keyboard.press("t")
    expect(page.locator("#records")).to_contain_text("export.link")
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.locator("#verified")).to_contain_text("each as it was written")
    shoot(page, "audit-dark")
    page.keyboard.press("q")
    expect(page.locator("#tiles")).to_contain_text("Failure rate")
    shoot(page, "queue-dark")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 800})
    shoot(page, "phone")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, f"the page is {width} wide on a phone"


def test_an_admin_keeps_accounts_and_holds_in_order(page: Any, address: str) -> None:
    sign_in(page, "admin")
    page.keyboard.press("p")
    rows = page.locator("#accounts tr")
    expect(rows).to_have_count(4)
    expect(page.locator("[data-name=admin] button")).to_have_count(0)  # nobody changes themselves
    form = page.locator("#newcomer")
    form.get_by_label("Name").fill("nora")
    form.get_by_label("E-mail").fill("nora@clinic.test")
    form.get_by_label("First password").fill("short")
    form.get_by_role("button", name="Add").click()
    expect(form.get_by_label("First password")).to_be_focused()
    expect(form.locator(".error")).to_contain_text("12")
    form.get_by_label("First password").fill(PASSWORD)
    form.get_by_role("button", name="Add").click()
    nora = page.locator("[data-name=nora]")
    expect(nora).to_contain_text("active")
    assert form.get_by_label("First password").input_value() == ""
    assert log_in(address, "nora").json()["role"] == "assistant"
    nora.get_by_role("button", name="Change").click()
    dialog = page.locator("#account")
    dialog.get_by_label("Role").select_option("auditor")
    dialog.get_by_label("Disabled").check()
    shoot(page, "account")
    dialog.get_by_role("button", name="Save").click()
    expect(nora).to_contain_text("auditor")
    expect(nora).to_contain_text("disabled")
    page.mouse.move(0, 0)
    shoot(page, "people")
    assert log_in(address, "nora").status_code == 401

    page.keyboard.press("h")
    hold = page.locator("#new-hold")
    hold.get_by_role("button", name="Hold").click()
    expect(hold.get_by_label("Its id")).to_be_focused()
    hold.get_by_label("On").select_option("recipient")
    hold.get_by_label("Its id").fill("mia@example.com")
    hold.get_by_label("Why").fill("Case 12, <until> the court has spoken")
    hold.get_by_role("button", name="Hold").click()
    card = page.locator("#held article")
    expect(card).to_contain_text("recipient mia@example.com")
    expect(card).to_contain_text("Case 12, <until> the court has spoken")
    page.mouse.move(0, 0)
    shoot(page, "holds")
    card.get_by_role("button", name="Release").click()
    page.locator("#release").get_by_role("button", name="Keep it").click()
    expect(card).to_contain_text("held")
    card.get_by_role("button", name="Release").click()
    page.locator("#release").get_by_role("button", name="Release").click()
    expect(card).to_contain_text("released by admin")
    page.keyboard.press("t")
    done = ["user.create", "user.change", "hold.placed", "hold.lifted"]
    for action in done:
        expect(page.locator("#records")).to_contain_text(action)
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#door")).to_be_visible()  # it asks the server first
    assert "mia" not in page.locator("#house").text_content()
    assert "nora" not in page.locator("#house").text_content()


def log_in(address: str, name: str) -> httpx2.Response:
    body = {"name": name, "password": PASSWORD}
    return httpx2.post(f"{address}/api/login", json=body, trust_env=False, timeout=60)


def test_an_auditor_sees_that_and_not_what(page: Any) -> None:
    sign_in(page, "auditor")
    assert sections(page) == ["Inbox", "Exports", "Audit", "Holds", "Queue"]
    page.keyboard.press("h")
    expect(page.locator("#held article")).to_have_count(1)  # which an admin placed and released
    expect(page.locator("#new-hold")).to_be_hidden()
    page.keyboard.press("p")  # not for auditors
    expect(page.locator("#people")).to_be_hidden()
    page.keyboard.press("i")
    page.locator("#messages button").first.click()
    expect(page.locator("#detail")).to_contain_text("You may not read what it says.")
    assert "person" not in page.locator("#inbox").inner_text()
    assert page.locator("#wish [name=dataset]").input_value() == "audit"
