"""Who comes in, and what they may: every address by every role, sessions, other sites' pages, rates, hostile input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from concierge.clinic import PASSWORD, Clinic, clinic
from conveyor_apps.concierge.cli import trial_people
from conveyor_apps.concierge.endpoints import addresses_of
from conveyor_apps.concierge.entry import Address
from conveyor_apps.concierge.errors import SettingError
from conveyor_apps.concierge.rights import RIGHTS, Right
from conveyor_apps.concierge.words import Role

pytestmark = pytest.mark.anyio

WAYS: dict[str, set[str]] = {
    "admin": {right.value for right in Right},
    "clinician": {"message.list", "message.read", "message.compose", "message.review", "message.send", "queue.watch"},
    "assistant": {"message.list", "message.read", "message.compose"},
    "auditor": {"message.list", "queue.watch", "export", "audit"},
}
MAIL = {"channel": "email", "recipient": "mia@example.com", "subject": "Tomorrow", "content": "At nine."}
JOB = {"type": "email_send", "messageId": "m1", "recipient": "mia@example.com", "subject": "s", "content": "c"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_table_of_rights_is_the_one_that_was_agreed() -> None:
    assert {role.value: {right.value for right in rights} for role, rights in RIGHTS.items()} == WAYS


def _path(address: Address) -> str:
    return "/".join("nothing" if part.startswith("{") else part for part in address.path.split("/"))


async def _ask(client: httpx2.AsyncClient, address: Address) -> httpx2.Response:
    body: dict[str, str] | None = None if address.method in ("GET", "DELETE") else {}
    return await client.request(address.method, _path(address), json=body)


async def test_every_address_lets_in_the_roles_that_may_and_no_other(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        addresses = addresses_of(house.concierge.doorway.room)
        assert len(addresses) > 30
        for address in addresses:
            nobody = await _ask(house.as_(None), address)
            assert nobody.status_code in (401, 429), (address.path, nobody.text)
            for role in Role:
                answer = await _ask(house.as_(role), address)
                may = address.right is None or address.right in WAYS[role]
                told = answer.json()["error"] if answer.status_code == 403 else ""
                refused = told.startswith(f"As {role} you may not do this")
                assert refused is not may, (address.method, address.path, role, answer.text)
                assert answer.status_code < 500, (address.path, answer.text)


async def test_jobs_of_exports_and_cleanups_want_their_own_rights(tmp_path: Path) -> None:
    export = {"type": "export_generation", "exportId": "e1", "filters": {}, "userId": "auditor", "format": "csv"}
    cleanup = {"type": "cleanup", "target": "temp_files", "olderThan": "2026-01-01"}
    wanted = {
        Role.ADMIN: (202, 202, 202), Role.CLINICIAN: (202, 403, 403), Role.ASSISTANT: (403, 403, 403),
        Role.AUDITOR: (403, 202, 403),
    }  # fmt: skip
    async with clinic(tmp_path) as house:
        for role, statuses in wanted.items():
            answers = [await house.as_(role).post("/api/enqueue-job", json=job) for job in (JOB, export, cleanup)]
            assert tuple(each.status_code for each in answers) == statuses, role


async def test_whoever_may_not_read_sees_neither_recipient_nor_words(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        id = (await house.as_(Role.ASSISTANT).post("/api/messages", json=MAIL)).json()["id"]
        seen = await house.as_(Role.AUDITOR).get(f"/api/messages/{id}")
        listed = await house.as_(Role.AUDITOR).get("/api/messages")
        history = await house.as_(Role.AUDITOR).get(f"/api/messages/{id}/history")
        for answer in (seen, listed, history):
            assert answer.status_code == 200
            assert not [word for word in ("mia@", "Tomorrow", "nine") if word in answer.text]
        assert (await house.as_(Role.AUDITOR).get("/api/messages?recipient=mia@example.com")).status_code == 403
        assert (await house.as_(Role.CLINICIAN).get("/api/messages?recipient=mia@example.com")).json()["items"]
        trail = (await house.as_(Role.AUDITOR).get(f"/api/audit?target={id}")).json()["items"]
        assert [(each["actor"], each["action"]) for each in trail] == [
            ("auditor", "message.history"), ("auditor", "message.list"), ("assistant", "message.compose"),
        ]  # fmt: skip
        assert (await house.as_(Role.AUDITOR).get("/api/audit/verify")).json()["faults"] == []


async def test_what_is_held_is_shown_to_whom_it_may_be_and_the_look_is_recorded(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        hold = {"kind": "recipient", "subject": "mia@example.com", "reason": "case 12"}
        assert (await house.as_(Role.ADMIN).post("/api/holds", json=hold)).status_code == 201
        seen = {role: (await house.as_(role).get("/api/holds")).json()["items"] for role in (Role.ADMIN, Role.AUDITOR)}
        assert [seen[role][0]["subject"] for role in seen] == ["mia@example.com", ""]  # auditors read no addresses
        assert (await house.as_(Role.ADMIN).get("/api/users")).status_code == 200
        trail = (await house.as_(Role.AUDITOR).get("/api/audit?action=*.list")).json()["items"]
        assert [(each["actor"], each["action"]) for each in trail] == [
            ("admin", "user.list"), ("auditor", "hold.list"), ("admin", "hold.list"),
        ]  # fmt: skip


async def test_a_page_that_looks_again_and_again_is_one_look(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        for path in ("", "?state=review", "", "?state=review", ""):
            assert (await house.as_(Role.CLINICIAN).get(f"/api/messages{path}")).status_code == 200
        trail = (await house.as_(Role.AUDITOR).get("/api/audit?action=message.list")).json()["items"]
        assert len(trail) == 2
        await house.as_(Role.CLINICIAN).post("/api/messages", json=MAIL)
        await house.as_(Role.CLINICIAN).get("/api/messages")
        trail = (await house.as_(Role.AUDITOR).get("/api/audit?action=message.list")).json()["items"]
        assert len(trail) == 3


async def test_assistants_change_their_own_drafts_only(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        id = (await house.as_(Role.CLINICIAN).post("/api/messages", json=MAIL)).json()["id"]
        assistant = house.as_(Role.ASSISTANT)
        assert (await assistant.put(f"/api/messages/{id}", json=MAIL)).status_code == 403
        assert (await assistant.post(f"/api/messages/{id}/cancel", json={})).status_code == 403
        assert (await assistant.post("/api/messages", json={**MAIL, "then": "send"})).status_code == 403


async def login(house: Clinic, client: httpx2.AsyncClient, name: str = "clinician", password: str = PASSWORD) -> Any:
    return await client.post("/api/login", json={"name": name, "password": password})


async def test_a_session_ends_with_the_logout_also_on_the_server(tmp_path: Path) -> None:
    url = "https://concierge.test"
    async with clinic(tmp_path, {"CONCIERGE_URL": url}) as house, house.visitor(url) as browser:
        answer = await login(house, browser)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-concierge=")
        for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
            assert word in cookie
        assert "Domain" not in cookie
        assert answer.headers["strict-transport-security"]
        assert (await browser.get("/api/me")).json()["role"] == "clinician"
        kept = dict(browser.cookies)
        own = {"sec-fetch-site": "same-origin"}
        assert (await browser.post("/api/logout", json={}, headers=own)).status_code == 200
        browser.cookies.update(kept)
        assert (await browser.get("/api/me")).status_code == 401


async def test_each_login_is_a_session_of_its_own_and_a_wrong_password_is_none(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house, house.visitor() as browser:
        first = (await login(house, browser)).headers["set-cookie"]
        assert (await login(house, browser)).headers["set-cookie"] != first
        wrong = await login(house, browser, password=PASSWORD.swapcase())
        nobody = await login(house, browser, name="nobody")
        assert (wrong.status_code, nobody.status_code) == (401, 401)
        assert wrong.json() == nobody.json()
        own, change = {"sec-fetch-site": "same-origin"}, {"old": "not it at all", "new": "another long one"}
        assert (await browser.post("/api/me/password", json=change, headers=own)).status_code == 403
        change["old"] = PASSWORD
        assert (await browser.post("/api/me/password", json=change, headers=own)).status_code == 204
        assert (await browser.get("/api/me")).status_code == 401  # also here
        assert (await login(house, browser, password="another long one")).status_code == 200  # noqa: S106  # wrong on purpose


async def test_no_trial_begins_where_people_work(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        with pytest.raises(SettingError, match="people work here already"):  # else their messages would go nowhere
            await trial_people(house.room, data=tmp_path)
        async with house.visitor() as browser:
            assert (await login(house, browser)).status_code == 200


SITES = [
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"origin": "http://evil.test"}, 403),
    ({"origin": "null"}, 403),
    ({}, 403),
    ({"origin": "http://concierge.test"}, 201),
    ({"sec-fetch-site": "same-origin"}, 201),
]


async def test_with_a_cookie_only_our_own_page_changes_anything(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house, house.visitor() as browser:
        await login(house, browser)
        for headers, status in SITES:
            answer = await browser.post("/api/messages", json=MAIL, headers=headers)
            assert answer.status_code == status, headers
        form = await browser.post("/api/messages", data=MAIL, headers={"sec-fetch-site": "same-origin"})
        assert form.status_code == 415
        assert (await browser.get("/debug/enqueue")).status_code == 405
        assert (await house.as_(Role.CLINICIAN).get("/debug/enqueue")).status_code == 202


async def test_a_disabled_account_is_out_at_once(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        change = {"role": "assistant", "address": "a@clinic.test", "disabled": True}
        for path, body in (("", change), ("/password", {"password": "another long one"})):  # one's own: not by this way
            method = "POST" if path else "PUT"
            own = await house.as_(Role.ADMIN).request(method, f"/api/users/admin{path}", json=body)
            assert own.status_code == 409, own.text
        assert (await house.as_(Role.ASSISTANT).get("/api/me")).status_code == 200
        assert (await house.as_(Role.ADMIN).put("/api/users/assistant", json=change)).status_code == 200
        assert (await house.as_(Role.ASSISTANT).get("/api/me")).status_code == 401
        async with house.visitor() as browser:
            assert (await login(house, browser, name="assistant")).status_code == 401


async def test_rates_hold_for_each_person(tmp_path: Path) -> None:
    async with clinic(tmp_path, {"CONCIERGE_RATE": "60"}) as house:
        for _ in range(300):  # a slow machine gives it one more each second
            refused = await house.as_(Role.AUDITOR).get("/api/me")
            if refused.status_code == 429:
                break
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert (await house.as_(Role.ADMIN).get("/api/me")).status_code == 200


async def test_logins_are_slowed_down(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house, house.visitor() as browser:
        assert (await login(house, browser)).status_code == 200
        for _ in range(3):  # meanwhile there may be room again for one
            while not house.room.logins.take("as clinician"):
                pass
            refused = await login(house, browser)
            if refused.status_code != 200:
                break
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert (await login(house, browser, name="auditor")).status_code == 200


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"recipient": "mia@example.com\r\nBcc: all@example.com"}, "recipient"),
    ({"recipient": "Mia <mia@example.com>"}, "recipient"),
    ({"recipient": "mia@example.com, tom@example.com"}, "recipient"),
    ({"recipient": ""}, "recipient"),
    ({"subject": "Hello\nBcc: x@y.z"}, "subject"),
    ({"subject": ""}, "subject"),
    ({"content": "bell \x07"}, "content"),
    ({"content": "x" * 50_001}, "content"),
    ({"messageId": "../../etc"}, "messageId"),
    ({"messageId": None}, "messageId"),
    ({"priority": "urgent"}, "priority"),
    ({"type": "fax_send"}, "type"),
    ({"type": "sms_send"}, "recipient"),
]


async def test_what_is_wrong_is_named_and_not_repeated(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        for change, field in WRONG:
            answer = await house.as_(Role.ADMIN).post("/api/enqueue-job", json={**JOB, **change})
            assert (answer.status_code, answer.json().get("field")) == (422, field), change
            assert not [each for each in change.values() if each and str(each) in answer.json()["error"]]


async def test_lists_go_on_by_cursor_and_miss_nothing(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        client = house.as_(Role.CLINICIAN)
        ids = [(await client.post("/api/messages", json=MAIL)).json()["id"] for _ in range(7)]
        seen: list[str] = []
        cursor = None
        while True:
            query = {"limit": 3, **({"cursor": cursor} if cursor else {})}
            page = (await client.get("/api/messages", params=query)).json()
            seen += [each["id"] for each in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert sorted(seen) == sorted(ids)
        assert (await client.get("/api/messages?cursor=%00%ff")).status_code == 422
        assert (await client.get("/api/messages?state=review")).json()["items"] == []
