"""What workers tell of messages: killed in the middle, late, twice, with old words; receipts before and after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from concierge.clinic import Clinic, clinic
from conveyor_apps.concierge.deliveries import AGAIN_MAX, Carrier, Later, Stop
from conveyor_apps.concierge.errors import PermanentError, Reason, TemporaryError, UnknownError
from conveyor_apps.concierge.jobs import EmailJob
from conveyor_apps.concierge.providers import Parcel, Receipt, Taken
from conveyor_apps.concierge.records import Message
from conveyor_apps.concierge.words import State

pytestmark = pytest.mark.anyio
TAKEN = Taken(provider="smtp", reference="r1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Clinic]:
    async with clinic(tmp_path) as open_clinic:
        yield open_clinic


def job_of(id: str = "m1") -> EmailJob:
    return EmailJob(message_id=id, recipient="mia@example.com", subject="s", content="c")


async def queued(house: Clinic, id: str = "m1", *, once: bool = False) -> Carrier:
    message = await house.room.producer.enqueue_email(job_of(id), once=once)
    assert message.carrier is not None
    return Carrier(id=message.carrier, attempt=1, version=1, is_last=False)


def again(carrier: Carrier, *, is_last: bool = False) -> Carrier:
    return Carrier(id=carrier.id, attempt=carrier.attempt + 1, version=carrier.version, is_last=is_last)


async def found(house: Clinic, id: str = "m1") -> Message:
    message = await house.room.messages.find(id)
    assert message is not None
    return message


async def test_whoever_was_killed_is_followed_by_another_with_the_same_key(house: Clinic) -> None:
    first = await queued(house)
    one = await house.room.deliveries.begin(job_of(), first)
    two = await house.room.deliveries.begin(job_of(), again(first))
    assert isinstance(one, Parcel)
    assert one == two
    await house.room.deliveries.taken("m1", TAKEN, first)  # it was not dead after all, but it is not its turn any more
    assert (await found(house)).state is State.SENDING
    await house.room.deliveries.taken("m1", TAKEN, again(first))
    assert (await found(house)).state is State.SENT
    assert await house.history("m1") == ["queued", "sending", "resumed", "sent"]


async def test_old_words_copies_and_what_is_over_are_let_go(house: Clinic) -> None:
    carrier = await queued(house)
    copy = Carrier(id="f" * 32, attempt=1, version=1, is_last=False)
    stale = Carrier(id=carrier.id, attempt=1, version=7, is_last=False)
    for other in (copy, stale):
        assert await house.room.deliveries.begin(job_of(), other) is Stop.OVER
    await house.room.deliveries.begin(job_of(), carrier)
    await house.room.deliveries.refused("m1", PermanentError(Reason.UNSUBSCRIBED, "told so"), carrier)
    assert await house.room.deliveries.begin(job_of(), again(carrier)) is Stop.OVER
    message = await found(house)
    assert (message.state, message.error) == (State.BOUNCED, "unsubscribed: told so")


async def test_what_goes_at_most_once_ends_where_nobody_knows(house: Clinic) -> None:
    carrier = await queued(house, once=True)
    await house.room.deliveries.begin(job_of(), carrier)
    assert await house.room.deliveries.failed("m1", TemporaryError("not taken"), carrier) is True
    await house.room.deliveries.begin(job_of(), again(carrier))
    assert await house.room.deliveries.failed("m1", UnknownError("cut"), again(carrier)) is False
    message = await found(house)
    assert message.state is State.FAILED
    assert "at most once" in str(message.error)


async def test_the_last_attempt_is_the_end_and_a_carrier_that_died_is_heard_of(house: Clinic) -> None:
    carrier = again(await queued(house), is_last=True)
    await house.room.deliveries.begin(job_of(), carrier)
    assert await house.room.deliveries.failed("m1", TemporaryError("full"), carrier) is True
    await house.room.deliveries.dead("m1", carrier.id, "retries")  # what it says comes too late
    other = await queued(house, "m2")
    await house.room.deliveries.begin(job_of("m2"), other)
    await house.room.deliveries.dead("m2", "f" * 32, "crashes")  # one that carried older words
    assert (await found(house, "m2")).state is State.SENDING
    await house.room.deliveries.dead("m2", other.id, "crashes")
    assert (await found(house)).error == "given up after 2 attempts: full"
    assert ((await found(house, "m2")).state, (await found(house, "m2")).error) == (State.FAILED, "given up: crashes")
    assert await house.history("m1") == ["queued", "sending", "failed"]


async def test_what_comes_too_early_waits(house: Clinic) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    message = await house.room.producer.enqueue_send_later(job_of(), at)
    assert message.carrier is not None
    carrier = Carrier(id=message.carrier, attempt=1, version=1, is_last=False)
    begun = await house.room.deliveries.begin(job_of(), carrier)
    assert isinstance(begun, Later)
    assert 3_500_000 < begun.wait_ms <= 3_600_000


async def test_receipts_may_be_quicker_than_the_answer_and_come_twice_and_late(house: Clinic) -> None:
    carrier = await queued(house)
    delivered = Receipt(provider="smtp", reference="r1", state=State.DELIVERED)
    bounced = Receipt(provider="smtp", reference="r1", state=State.BOUNCED, detail="550")
    await house.room.deliveries.begin(job_of(), carrier)
    assert await house.room.deliveries.receive(delivered) is None
    await house.room.deliveries.taken("m1", TAKEN, carrier)
    assert (await found(house)).state is State.DELIVERED
    assert await house.room.deliveries.receive(delivered) == "m1"
    assert await house.room.deliveries.receive(bounced) == "m1"
    assert await house.history("m1") == ["queued", "sending", "sent", "delivered", "late_receipt"]


async def test_what_its_recipient_s_carrier_could_not_deliver_goes_again_three_times_and_no_more(house: Clinic) -> None:
    carrier = await queued(house)
    for number in range(1 + AGAIN_MAX):
        assert isinstance(await house.room.deliveries.begin(job_of(), carrier), Parcel)
        taken = Taken(provider="twilio", reference=f"r{number}")
        await house.room.deliveries.taken("m1", taken, carrier)
        lost = Receipt(provider="twilio", reference=f"r{number}", state=State.FAILED, detail="30003", again_after_s=0.0)
        assert await house.room.deliveries.receive(lost) == "m1"
        if number < AGAIN_MAX:
            assert (await found(house)).state is State.QUEUED
            assert await house.room.messages.relay() == 1
            message = await found(house)
            assert message.carrier not in (None, carrier.id)
            carrier = Carrier(id=str(message.carrier), attempt=1, version=message.version, is_last=False)
    assert (await found(house)).state is State.FAILED
    assert (await house.history("m1")).count("sent_again") == AGAIN_MAX


async def test_what_goes_at_most_once_does_not_go_again_for_a_receipt(house: Clinic) -> None:
    carrier = await queued(house, once=True)
    await house.room.deliveries.begin(job_of(), carrier)
    await house.room.deliveries.taken("m1", TAKEN, carrier)
    lost = Receipt(provider="smtp", reference="r1", state=State.FAILED, detail="30003", again_after_s=0.0)
    assert await house.room.deliveries.receive(lost) == "m1"
    assert (await found(house)).state is State.FAILED
    assert await house.room.messages.relay() == 0


async def test_what_is_due_in_more_than_a_day_is_relayed_when_its_day_comes(house: Clinic) -> None:
    message = await house.room.producer.enqueue_send_later(job_of(), datetime.now(UTC) + timedelta(days=40))
    assert (message.state, message.carrier) == (State.QUEUED, None)
    assert await house.room.messages.relay() == 0
    soon = int(datetime.now(UTC).timestamp() * 1000) + 60_000
    await house.room.database.write(lambda tx: tx.change("set_send_at", id="m1", send_at=soon))
    assert await house.room.messages.relay() == 1
    assert (await found(house)).carrier is not None
    assert await house.room.messages.relay() == 0


async def test_a_job_from_past_concierge_is_taken_up(house: Clinic) -> None:
    begun = await house.room.deliveries.begin(
        job_of("x1"), Carrier(id="a" * 32, attempt=1, version=None, is_last=False)
    )
    assert isinstance(begun, Parcel)
    assert await house.history("x1") == ["queued", "sending"]


async def test_the_trail_shows_what_was_done_to_it(house: Clinic) -> None:
    for number in range(4):
        await queued(house, f"m{number}")
    examined = await house.room.trail.verify()
    assert examined.faults == []
    await house.room.database.write(
        lambda tx: tx.connection.execute("UPDATE concierge_audit SET actor = 'nobody' WHERE number = 2").fetchall()
    )
    assert [each.number for each in (await house.room.trail.verify()).faults] == [2]
    last = examined.records
    await house.room.database.write(
        lambda tx: tx.connection.execute(f"DELETE FROM concierge_audit WHERE number = {last}").fetchall()
    )
    faults = (await house.room.trail.verify(expected=examined.head)).faults
    assert [each.number for each in faults] == [2, last - 1, last - 1]
