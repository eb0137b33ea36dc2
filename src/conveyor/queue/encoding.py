"""Bodies to bytes and back. Any value goes in on the sending side; on the other a `BodyReader` gives the type that the
handler's annotation names. JSON is strict: no NaN, no Infinity, UTF-8. Nothing is unpickled or imported by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, get_origin

import msgspec

from conveyor.model.errors import BodyDecodeError, InvalidMessageError, InvalidSettingError
from conveyor.model.message import SEALED_MARK, ContentType, Lease
from conveyor.queue.sealing import NO_KEYS, Sealer

_PROBLEM_CHARS_MAX: Final = 300
_HINT: Final = "send JSON values, a dataclass, a msgspec.Struct or a pydantic model; or str as `text`, bytes as `bytes`"


def _to_builtins(value: Any) -> Any:
    """For the values that msgspec does not know; pydantic models are told by their serializer, without importing
    pydantic."""
    serializer = getattr(type(value), "__pydantic_serializer__", None)
    if serializer is None:
        raise TypeError(f"`{type(value).__qualname__}` has no JSON form")
    return serializer.to_python(value, mode="json")


_encode_json: Final = msgspec.json.Encoder(enc_hook=_to_builtins).encode


def encode_json(body: object) -> bytes:
    """The JSON of `body`; `InvalidMessageError` if it has none."""
    try:
        encoded = _encode_json(body)
        if b"null" in encoded and _has_nan(
            msgspec.to_builtins(body, enc_hook=_to_builtins)
        ):  # msgspec writes NaN as null
            raise ValueError("NaN and Infinity have no JSON form")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidMessageError("body", _shown(body), f"cannot be encoded: {error}", hint=_HINT) from error
    return encoded


def encode_body(body: object, content_type: str | None) -> tuple[bytes, ContentType]:
    """The bytes that travel. Without a content type, bytes go as `bytes` and everything else as `json`."""
    if content_type is None:
        is_bytes = isinstance(body, (bytes, bytearray, memoryview))
        wanted = ContentType.BYTES if is_bytes else ContentType.JSON
    else:
        wanted = read_content_type(content_type)
    if wanted is ContentType.JSON:
        return encode_json(body), wanted
    if wanted is ContentType.TEXT and isinstance(body, str):
        try:
            return body.encode(), wanted
        except UnicodeEncodeError as error:
            raise InvalidMessageError("body", _shown(body), f"is not UTF-8: {error.reason}") from error
    if wanted is ContentType.BYTES and isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body), wanted
    needed = "str" if wanted is ContentType.TEXT else "bytes"
    raise InvalidMessageError("body", _shown(body), f"must be {needed} for content type `{wanted}`", hint=_HINT)


def read_content_type(text: str) -> ContentType:
    """`InvalidMessageError` unless it is one of the three."""
    try:
        return ContentType(text)
    except ValueError:
        raise InvalidMessageError("content_type", text, "is unknown", hint="`json`, `text` or `bytes`") from None


class BodyReader:
    """Reads bodies as one annotated type; built once per handler."""

    __slots__ = ("_expected", "_json", "_queue", "_type", "sealer")

    def __init__(self, queue: str, annotation: Any, sealer: Sealer = NO_KEYS) -> None:
        self._queue = queue
        self.sealer = sealer
        """Opens what is sealed."""
        self._type = annotation
        self._expected = getattr(annotation, "__qualname__", None) or str(annotation)
        self._json = _json_decoder(queue, annotation)

    @property
    def annotation(self) -> Any:
        return self._type

    def read_lease(self, lease: Lease) -> Any:
        """The body of a delivery, opened if need be. `BodyDecodeError`, `SealedBodyError`."""
        if lease.body.startswith(SEALED_MARK):
            return self.read(*self.sealer.open_lease(lease))
        return self.read(lease.body, lease.content_type)

    def read(self, body: bytes, content_type: ContentType) -> Any:
        """The body as the annotated type, else `BodyDecodeError`."""
        try:
            if content_type == "json":
                return self._json(body)
            if content_type == "text":
                return msgspec.convert(body.decode(), self._type, dec_hook=_from_builtins)
            if self._type is Any or self._type is bytes:
                return body
            raise ValueError("it was sent as bytes")
        except Exception as error:  # validators are user code: whatever they raise is this body's failure
            problem = f"{type(error).__name__}: {error}"[:_PROBLEM_CHARS_MAX]
            raise BodyDecodeError(self._queue, self._expected, problem) from error


def _json_decoder(queue: str, annotation: Any) -> Callable[[bytes], Any]:
    validator = getattr(annotation, "__pydantic_validator__", None)
    if validator is not None and get_origin(annotation) is None:
        return _pydantic_decoder(validator.validate_json)
    try:
        return msgspec.json.Decoder(annotation, dec_hook=_from_builtins).decode
    except TypeError as error:
        raise InvalidSettingError(
            "body", annotation, f"bodies of queue `{queue}` cannot be read as this type: {error}",
            hint="use a dataclass, a TypedDict, a msgspec.Struct, a pydantic model, a builtin type or `Any`",
        ) from error  # fmt: skip


def _pydantic_decoder(validate_json: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode(body: bytes) -> Any:
        if b"NaN" in body or b"Infinity" in body:
            msgspec.json.decode(body)  # strict, which pydantic's own parser is not
        return validate_json(body)

    return decode


def _from_builtins(wanted: Any, value: Any) -> Any:
    """For annotated types that msgspec does not know, wherever they are nested."""
    validator = getattr(wanted, "__pydantic_validator__", None)
    if validator is None:
        if isinstance(value, wanted):
            return value
        raise ValueError(f"`{wanted.__qualname__}` cannot be read from JSON")
    return validator.validate_json(msgspec.json.encode(value))


def _has_nan(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_has_nan(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_has_nan(item) for item in value)


def _shown(body: object) -> str:
    """Its type and no more: bodies hold what logs should not."""
    return f"<{type(body).__qualname__}>"
