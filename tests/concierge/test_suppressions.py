"""Addresses that complained, bounced for good or unsubscribed: nothing more is sent there, until somebody lifts it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from concierge.clinic import Clinic, clinic
from conveyor_apps.concierge.deliveries import Carrier, Stop
from conveyor_apps.concierge.errors import PermanentError, Reason
from conveyor_apps.concierge.jobs import EmailJob
from conveyor_apps.concierge.providers import Parcel, Receipt, Taken
from conveyor_apps.concierge.providers.opening import open_providers
from conveyor_apps.concierge.safety.opening import Watch
from conveyor_apps.concierge.safety.sentry import Sentry
from conveyor_apps.concierge.settings import read_settings
from conveyor_apps.concierge.wiring import Parts, build_concierge
from conveyor_apps.concierge.words import Role, State

pytestmark = pytest.mark.anyio
SENT = Taken(provider="resend", reference="r1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Clinic]:
    async with clinic(tmp_path) as open_clinic:
        yield open_clinic


async def begin(house: Clinic, id: str, recipient: str = "mia@example.com") -> tuple[object, Carrier]:
    """What a worker is told of a new message, and by which carrier."""
    job = EmailJob(message_id=id, recipient=recipient, subject="s", content="c")
    message = await house.room.producer.enqueue_email(job)
    assert message.carrier is not None
    carrier = Carrier(id=message.carrier, attempt=1, version=1, is_last=False)
    return await house.room.deliveries.begin(job, carrier), carrier


async def listed(house: Clinic) -> list[tuple[str, str, str]]:
    items = (await house.as_(Role.CLINICIAN).get("/api/suppressions")).json()["items"]
    return [(each["recipient"], each["cause"], each["placedBy"]) for each in items]


async def test_an_address_that_is_refused_for_good_is_asked_nothing_more(house: Clinic) -> None:
    _, first = await begin(house, "m1")
    await house.room.deliveries.refused("m1", PermanentError(Reason.INVALID, "of the mail alone"), first)
    parcel, second = await begin(house, "m2")
    assert isinstance(parcel, Parcel)
    await house.room.deliveries.refused("m2", PermanentError(Reason.UNSUBSCRIBED, "STOP", is_lasting=True), second)
    assert await listed(house) == [("mia@example.com", "unsubscribed", "worker")]
    assert (await begin(house, "m3", "Mia@Example.com"))[0] is Stop.SUPPRESSED
    found = await house.room.messages.find("m3")
    assert found is not None
    assert (found.state, str(found.error)[:12]) == (State.FAILED, "unsubscribed")
    assert await house.history("m3") == ["queued", "failed"]
    assert isinstance((await begin(house, "m4", "ann@example.com"))[0], Parcel)

    id = (await house.as_(Role.CLINICIAN).get("/api/suppressions")).json()["items"][0]["id"]
    assert (await house.as_(Role.ASSISTANT).post(f"/api/suppressions/{id}/lift", json={})).status_code == 403
    assert (await house.as_(Role.CLINICIAN).post(f"/api/suppressions/{id}/lift", json={})).status_code == 204
    assert (await house.as_(Role.CLINICIAN).post(f"/api/suppressions/{id}/lift", json={})).status_code == 404
    assert isinstance((await begin(house, "m5"))[0], Parcel)
    trail = (await house.as_(Role.AUDITOR).get("/api/audit?action=suppression.*ed")).json()["items"]
    assert [(each["action"], each["target"]) for each in trail] == [
        ("suppression.lifted", id),
        ("suppression.placed", id),
    ]


async def test_a_complaint_counts_though_the_message_is_over_or_its_reference_unknown(house: Clinic) -> None:
    _, carrier = await begin(house, "m1")
    await house.room.deliveries.taken("m1", SENT, carrier)
    delivered = Receipt(provider="resend", reference="r1", state=State.DELIVERED)
    await house.room.deliveries.receive(delivered)
    assert await listed(house) == []
    await house.room.deliveries.receive(complaint("r1"))
    await begin(house, "m2", "ann@example.com")
    await house.room.deliveries.receive(
        Receipt(provider="resend", reference="r2", state=State.BOUNCED, message_id="m2", is_lasting=True)
    )
    assert sorted(await listed(house)) == [
        ("ann@example.com", "bounced", "resend"), ("mia@example.com", "complained", "resend"),
    ]  # fmt: skip
    assert (await begin(house, "m3"))[0] is Stop.SUPPRESSED


def complaint(reference: str) -> Receipt:
    return Receipt(provider="resend", reference=reference, state=State.DELIVERED, is_complaint=True)


async def test_whoever_takes_the_call_puts_an_address_on_the_list_once(house: Clinic) -> None:
    asked = {"channel": "sms", "recipient": "+491701234567", "note": "by phone"}
    answers = [await house.as_(Role.ASSISTANT).post("/api/suppressions", json=asked) for _ in range(2)]
    assert [each.status_code for each in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert await listed(house) == [("+491701234567", "asked", "assistant")]
    wrong = await house.as_(Role.ASSISTANT).post("/api/suppressions", json={**asked, "channel": "email"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "recipient")
    page = (await house.as_(Role.CLINICIAN).get("/api/suppressions?limit=1&recipient=nobody")).json()
    assert page == {"items": [], "next": None}


async def test_where_payloads_are_not_encrypted_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONVEYOR_SECRETS_KEY", "CONVEYOR_FILES", "CONVEYOR_ENCRYPTED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("conveyor_apps.concierge.wiring.OWN_KEY", ())  # as if the store were PostgreSQL
    said = io.StringIO()
    parts = Parts(providers=open_providers, safety=lambda _settings: Watch(Sentry(""), out=lambda: said))
    settings = read_settings({"CONCIERGE_DATA": str(tmp_path)})
    built = build_concierge(settings, url=f"sqlite:///{tmp_path}/conveyor.db", parts=parts)
    async with built.app:
        facts = await built.doorway.room().facts()
    assert "CONVEYOR_SECRETS_KEY" in facts["warnings"][0]
    line = msgspec.json.decode(said.getvalue().splitlines()[0])
    assert (line["event"], line["level"]) == ("queue.unencrypted", "warning")
    (tmp_path / "secrets.key").write_text("")
    monkeypatch.setenv("CONVEYOR_FILES", str(tmp_path))
    assert not build_concierge(settings, url="memory://", parts=parts).doorway.warnings()
