"""Letters open in their place alone, whatever somebody writes into the database."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from conveyor.model.beside import SealedBodyError
from conveyor.model.group import GROUP_HEADER
from conveyor.model.ids import MessageId
from conveyor.model.message import ContentType, DeadLetter, Draft, Lease, Peeked
from conveyor.queue.sealing import Letter, Sealer
from conveyor.testing.factories import an_id

ID, OTHER = an_id(), an_id()
BODY = b'{"name":"Ada"}'
MEMBER = msgspec.json.encode({GROUP_HEADER: "0" * 32})


@pytest.fixture
def sealer() -> Sealer:
    """Dead letters of `mail` go to `mail-dlq`."""
    return Sealer(["mail", "post"], lambda: {"0" * 16: bytes(32)}, lambda *ends: ends == ("mail", "mail-dlq"))


@pytest.fixture
def letter(sealer: Sealer) -> bytes:
    """What is sent to `mail` as the message `ID`."""
    return sealer.seal_draft(Draft(id=ID, queue="mail", body=BODY)).body


def lease(body: bytes, *, queue: str = "mail", id: MessageId = ID, headers: bytes | None = None) -> Lease:
    return Lease(
        seq=1, claim=1, id=id, queue=queue, body=body, content_type=ContentType.JSON, sent_at=0, headers=headers
    )


def peeked(body: bytes, *, queue: str = "mail", id: MessageId = ID, origin: str | None = None) -> Peeked:
    dead = None if origin is None else DeadLetter(origin_queue=origin, reason="it failed", dead_at=0)
    return Peeked(
        seq=1, id=id, queue=queue, body=body, content_type=ContentType.JSON, sent_at=0, ready_at=0, attempts=0,
        leased=False, priority=5, dead=dead,
    )  # fmt: skip


def test_a_delivery_opens_in_its_queue_and_where_that_leads(sealer: Sealer, letter: bytes) -> None:
    assert sealer.open_lease(lease(letter)) == (BODY, ContentType.JSON)
    assert sealer.open_lease(lease(letter, queue="mail-dlq")) == (BODY, ContentType.JSON)


@pytest.mark.parametrize(
    ("queue", "id", "headers"),
    [("post", ID, None), ("mail", OTHER, None), ("mail", OTHER, MEMBER)],
    ids=["queue", "id", "group"],
)
def test_a_delivery_opens_nowhere_else(
    sealer: Sealer, letter: bytes, queue: str, id: MessageId, headers: bytes | None
) -> None:
    with pytest.raises(SealedBodyError, match="another place"):
        sealer.open_lease(lease(letter, queue=queue, id=id, headers=headers))


@pytest.mark.parametrize(
    "forge",
    [
        lambda letter: replace(letter, queue="post"),
        lambda letter: replace(letter, place=f"message/{OTHER.hex()}"),
        lambda letter: replace(letter, place=f"result/{ID.hex()}"),
        lambda letter: replace(letter, content_type=ContentType.TEXT),
        lambda letter: replace(letter, nonce=bytes(12)),
        lambda letter: replace(letter, nonce=b""),
        lambda letter: replace(letter, data=letter.data[:-1] + bytes([letter.data[-1] ^ 1])),
        lambda letter: replace(letter, data=b""),
    ],
)
def test_who_writes_another_place_into_a_letter_does_not_open_it(
    sealer: Sealer, letter: bytes, forge: Callable[[Letter], Letter]
) -> None:
    forged = forge(msgspec.json.decode(letter, type=Letter))
    id = MessageId(bytes.fromhex(forged.place.partition("/")[2]))
    there = lease(msgspec.json.encode(forged), queue=forged.queue, id=id, headers=MEMBER)
    with pytest.raises(SealedBodyError, match="changed in the store"):
        sealer.open_lease(there)


def test_a_result_opens_as_a_payload_for_members_of_a_group_alone(sealer: Sealer) -> None:
    result = sealer.seal("mail", f"result/{OTHER.hex()}", BODY)
    assert sealer.open_lease(lease(result, headers=MEMBER)) == (BODY, ContentType.JSON)
    for headers in (None, b"{}"):
        with pytest.raises(SealedBodyError, match="another place"):
            sealer.open_lease(lease(result, headers=headers))


def test_what_is_kept_opens_in_its_place_alone(sealer: Sealer) -> None:
    kept = sealer.keep("mail", f"step/{ID.hex()}/greet", BODY)
    assert sealer.open_kept("mail", f"step/{ID.hex()}/greet", kept) == BODY
    assert sealer.open_kept("", f"step/{ID.hex()}/greet", kept) == BODY
    for queue, place in (("post", f"step/{ID.hex()}/greet"), ("mail", f"step/{ID.hex()}/pay")):
        with pytest.raises(SealedBodyError, match="another place"):
            sealer.open_kept(queue, place, kept)


def test_who_looks_at_a_message_opens_it_wherever_it_lies_but_not_as_another(sealer: Sealer, letter: bytes) -> None:
    for queue in ("mail", "mail-dlq", "graveyard"):
        assert sealer.opened(peeked(letter, queue=queue)).body == BODY
    with pytest.raises(SealedBodyError, match="another place"):
        sealer.opened(peeked(letter, id=OTHER))


def test_an_edit_stays_sealed_in_the_place_of_what_was_there(sealer: Sealer, letter: bytes) -> None:
    dead = peeked(letter, queue="mail-dlq", origin="mail")
    body, content_type = sealer.seal_edit(dead, b'"Eve"', ContentType.JSON)
    assert content_type is ContentType.JSON
    assert sealer.open_lease(lease(body)) == (b'"Eve"', ContentType.JSON)
    assert sealer.seal_edit(dead, letter, ContentType.JSON) == (letter, ContentType.JSON), "nobody edited it"
    plain = peeked(BODY, queue="open")
    assert sealer.seal_edit(plain, b"2", ContentType.TEXT) == (b"2", ContentType.TEXT)


def test_a_new_key_seals_once(letter: bytes) -> None:
    both = Sealer((), lambda: {"1" * 16: b"1" * 32, "0" * 16: bytes(32)})
    fresh = both.reseal("mail", letter)
    assert fresh is not None
    assert re.match(b'{"sealed_with":"1{16}"', fresh)
    assert both.reseal("mail", fresh) is None
    assert both.reseal("mail", BODY) is None
    assert Sealer((), lambda: {"1" * 16: b"1" * 32}).open_lease(lease(fresh)) == (BODY, ContentType.JSON)
