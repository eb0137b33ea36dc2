"""Letters: what they show, what they are bound to, and that nothing of them can be changed."""

from __future__ import annotations

import base64

import msgspec
import pytest

from conveyor.model.beside import SealedBodyError
from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import ContentType
from conveyor.queue.sealing import OVERHEAD_BYTES_MAX, Sealer, is_sealed

KEYS = {"a" * 16: b"a" * 32, "b" * 16: b"b" * 32}


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(["mail", "clinic-*"], lambda: KEYS)


def test_a_letter_shows_its_key_and_place_alone(sealer: Sealer) -> None:
    letter = sealer.seal("mail", "message/1", b'{"name":"Ada"}')
    shown = msgspec.json.decode(letter)
    assert {name: shown[name] for name in ("sealed_with", "queue", "place", "content_type")} == {
        "sealed_with": "a" * 16, "queue": "mail", "place": "message/1", "content_type": "json",
    }  # fmt: skip
    assert b"Ada" not in base64.b64decode(shown["data"])
    assert sealer.open_kept("mail", "message/1", letter) == b'{"name":"Ada"}'


def test_no_two_letters_are_alike(sealer: Sealer) -> None:
    letters = {sealer.seal("mail", "message/1", b"{}") for _ in range(1_000)}
    assert len({msgspec.json.decode(each)["nonce"] for each in letters}) == 1_000


@pytest.mark.parametrize("size", [0, 1, 1_000, 100_000])
def test_what_it_costs_is_bounded(sealer: Sealer, size: int) -> None:
    letter = sealer.seal("q" * 63, f"step/{'0' * 32}/{'s' * 100}", b"x" * size, ContentType.BYTES)
    assert len(letter) <= size * 4 / 3 + OVERHEAD_BYTES_MAX


@pytest.mark.parametrize("harm", ["data", "nonce", "queue", "place", "content_type", "sealed_with", "torn", "place of another"])
def test_what_was_tampered_with_does_not_open(sealer: Sealer, harm: str) -> None:
    letter = sealer.seal("mail", "message/1", b"secret")
    facts, place = msgspec.json.decode(letter), "message/1"
    if harm == "torn":
        letter = letter[:-9]
    elif harm == "place of another":
        place = "message/2"
    else:
        others = {"queue": "clinic-1", "place": "message/2", "content_type": "text", "sealed_with": "b" * 16}
        facts[harm] = others.get(harm) or _flipped(facts[harm])
        letter = msgspec.json.encode(facts)
        place = facts["place"]
    with pytest.raises(SealedBodyError):
        sealer.open_kept("", place, letter)


@pytest.mark.parametrize("nonce", ["", "AAAA", "A" * 400])
def test_a_nonce_that_is_none_opens_nothing(sealer: Sealer, nonce: str) -> None:
    facts = msgspec.json.decode(sealer.seal("mail", "message/1", b"secret"))
    with pytest.raises(SealedBodyError):
        sealer.open_kept("mail", "message/1", msgspec.json.encode(facts | {"nonce": nonce}))


def test_what_only_begins_like_a_letter_is_none(sealer: Sealer) -> None:
    for body in (b'{"sealed_with":"wax"}', b'{"sealed_with":"' + b"a" * 16 + b'"}'):
        assert not is_sealed(body)
        assert sealer.open_kept("mail", "message/1", body) == body


def test_a_new_key_is_found_without_a_new_start() -> None:
    keys = {"a" * 16: b"a" * 32}
    early = Sealer(["mail"], lambda: dict(keys))
    letter = Sealer(["mail"], lambda: {"b" * 16: b"b" * 32}).seal("mail", "message/1", b"x")
    with pytest.raises(SealedBodyError, match="it is not here"):
        early.open_kept("mail", "message/1", letter)
    keys["b" * 16] = b"b" * 32
    assert early.open_kept("mail", "message/1", letter) == b"x"


def test_only_the_queues_that_are_named_are_covered(sealer: Sealer) -> None:
    assert [sealer.covers(each) for each in ("mail", "mail-dlq", "clinic-jobs", "Mail")] == [True, False, True, False]
    assert sealer.keep("plain", "result/1", b"1") == b"1"
    assert is_sealed(sealer.keep("mail", "result/1", b"1"))


def test_without_a_key_nothing_is_sealed() -> None:
    with pytest.raises(InvalidSettingError, match="conveyor keys make"):
        Sealer(["mail"]).seal("mail", "message/1", b"x")


def _flipped(text: str) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[0] ^= 1
    return base64.b64encode(raw).decode()
