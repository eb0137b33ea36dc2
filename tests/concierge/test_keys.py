"""What people and programs come in with: each key in its own way, for its own time, and not after its account was closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from concierge.clinic import PASSWORD, clinic
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import SYSTEM
from conveyor_apps.concierge.words import Role

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_keys_open_in_their_own_way_and_for_their_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clinic(tmp_path) as house:
        people, settings = house.room.people, house.room.settings.desk
        session, _ = await people.log_in("clinician", PASSWORD, "127.0.0.1")
        token = await people.add_token("clinician", "reports", SYSTEM, days=1)
        for secret, by_cookie in ((session, True), (token, False)):
            person = await people.find(secret, by_cookie=by_cookie)
            assert person is not None
            assert (person.name, person.by_cookie) == ("clinician", by_cookie)
            assert await people.find(secret, by_cookie=not by_cookie) is None
            assert await people.find(secret[:-1], by_cookie=by_cookie) is None
        now_ms = clock.now_ms()
        later = {
            settings.idle_minutes * MINUTE_MS - MINUTE_MS: (True, True),
            settings.idle_minutes * MINUTE_MS + MINUTE_MS: (False, True),
            24 * 60 * MINUTE_MS + MINUTE_MS: (False, False),
        }
        for after_ms, are_good in later.items():
            with monkeypatch.context() as patch:
                patch.setattr(clock, "now_ms", lambda after_ms=after_ms: now_ms + after_ms)
                found = [await people.find(session, by_cookie=True), await people.find(token, by_cookie=False)]
            assert tuple(each is not None for each in found) == are_good, after_ms


async def test_an_account_that_is_opened_again_has_none_of_its_former_keys(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        people = house.room.people
        session, _ = await people.log_in("assistant", PASSWORD, "127.0.0.1")
        for disabled in (True, False):
            await people.change("assistant", SYSTEM, role=Role.ASSISTANT, address="a@clinic.test", disabled=disabled)
            assert (await house.as_(Role.ASSISTANT).get("/api/me")).status_code == 401
            assert await people.find(session, by_cookie=True) is None
