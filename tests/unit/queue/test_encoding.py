"""Bodies survive the way there and back, and what has no JSON form is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from conveyor.model.errors import BodyDecodeError, InvalidMessageError, InvalidSettingError
from conveyor.model.message import ContentType
from conveyor.queue.encoding import BodyReader, encode_body

JSON = ContentType.JSON


@dataclass
class Plain:
    number: int
    when: datetime


class Struct(msgspec.Struct):
    number: int


class Typed(TypedDict):
    number: int


class Model(pydantic.BaseModel):
    number: int
    when: datetime | None = None


class Weighed(pydantic.BaseModel):
    weight: float


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "annotation"),
    [
        (Plain(1, NOON), Plain),
        (Struct(1), Struct),
        ({"number": 1}, Typed),
        (Model(number=1, when=NOON), Model),
        ([Model(number=1), Model(number=2)], list[Model]),
        ({"a": Model(number=1)}, dict[str, Model]),
        ([1, "two", None, {"three": 3.5}], Any),
        ("text as JSON", str),
        (None, type(None)),
        (2**70, int),
    ],
    ids=str,
)
def test_a_body_comes_back_as_the_annotated_type(body: object, annotation: Any) -> None:
    encoded, content_type = encode_body(body, None)
    assert content_type is JSON
    assert BodyReader("q", annotation).read(encoded, content_type) == body


def test_bytes_travel_as_bytes_unless_something_else_is_said() -> None:
    assert encode_body(b"\xff\0", None) == (b"\xff\0", ContentType.BYTES)
    assert encode_body(bytearray(b"x"), "bytes") == (b"x", ContentType.BYTES)
    assert BodyReader("q", bytes).read(b"\xff", ContentType.BYTES) == b"\xff"
    assert BodyReader("q", Any).read(b"\xff", ContentType.BYTES) == b"\xff"


def test_text_travels_as_it_is() -> None:
    assert encode_body("grüß", "text") == ("grüß".encode(), ContentType.TEXT)
    assert BodyReader("q", str).read("grüß".encode(), ContentType.TEXT) == "grüß"
    assert BodyReader("q", Any).read(b"a", ContentType.TEXT) == "a"


def circle() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (float("nan"), None),
        ({"deep": [float("inf")]}, None),
        (Weighed(weight=float("nan")), None),
        (object(), None),
        (circle(), None),
        ("\ud800", None),
        ("\ud800", "text"),
        ({(1, 2): 3}, None),
        (1, "text"),
        ("text", "bytes"),
        ({}, "xml"),
    ],
    ids=["nan", "deep inf", "model nan", "object", "circle", "surrogate", "surrogate text", "key", "int", "str", "xml"],
)
def test_what_has_no_such_form_is_refused_with_a_hint(body: object, content_type: str | None) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        encode_body(body, content_type)
    assert caught.value.hint or "UTF-8" in str(caught.value)


def test_a_null_is_not_taken_for_a_nan() -> None:
    assert encode_body({"nothing": None, "deep": [None, 1.5]}, None)[0] == b'{"nothing":null,"deep":[null,1.5]}'


class Angry(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("raw", "content_type", "annotation"),
    [
        (b"{", JSON, Any),
        (b"NaN", JSON, Any),
        (b'{"number": NaN}', JSON, Model),
        (b'{"number": "x"}', JSON, Plain),
        (b'{"number": "x"}', JSON, Model),
        (b"[" * 100_000, JSON, Any),
        (b'"\xff"', JSON, str),
        (b"\xff", ContentType.TEXT, str),
        (b"1", ContentType.TEXT, Plain),
        (b"1", ContentType.BYTES, int),
        (b'{"number": 1}', JSON, Angry),
        (b'[{"number": "x"}]', JSON, list[Model]),
    ],
)
def test_a_body_that_does_not_fit_is_a_decode_error_and_nothing_else(
    raw: bytes, content_type: ContentType, annotation: Any
) -> None:
    with pytest.raises(BodyDecodeError):
        BodyReader("q", annotation).read(raw, content_type)


def test_a_type_that_json_cannot_give_is_refused_at_the_declaration() -> None:
    with pytest.raises(InvalidSettingError):
        BodyReader("q", Plain | Struct)
