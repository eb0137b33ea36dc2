"""Values that are kept with a job, as JSON, and come back as one type: at once, and at every later attempt."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, get_args, get_origin

from conveyor.model.errors import BodyDecodeError, InvalidMessageError, InvalidSettingError
from conveyor.model.ids import MessageId
from conveyor.model.job_errors import JobStepError
from conveyor.model.message import ContentType
from conveyor.model.step import STEP_BYTES_MAX, STEP_NAME_CHARS_MAX
from conveyor.queue.encoding import BodyReader, encode_json
from conveyor.queue.handler import resolve_annotation

_READERS_KEPT: Final = 500
_HINT: Final = "return JSON values, a dataclass, a msgspec.Struct or a pydantic model, and say which: `type=Receipt`"
_LARGE: Final = "keep what is large in a bucket, and hand its key on"


def check_step_name(what: str, name: object) -> None:
    """`JobStepError` for what no store could find again."""
    if isinstance(name, str) and 1 <= len(name) <= STEP_NAME_CHARS_MAX and "\0" not in name:
        with contextlib.suppress(UnicodeEncodeError):  # half of a surrogate pair
            name.encode()
            return
    raise JobStepError(what, name, f"its name must be text of 1 to {STEP_NAME_CHARS_MAX} characters")


def place_of(what: str, id: MessageId, name: str) -> str:
    """What a value of a job is bound to, where it is sealed."""
    return f"{what}/{id.hex()}/{name}"


def write_value(what: str, name: str, value: object) -> bytes:
    """`JobStepError` for what has no JSON, or too much of it."""
    try:
        written = encode_json(value)
    except InvalidMessageError as error:
        kind = type(value).__qualname__
        raise JobStepError(what, name, f"a `{kind}` cannot be kept: {error.__cause__}", hint=_HINT) from error
    if len(written) > STEP_BYTES_MAX:
        problem = f"is {len(written):,} bytes of JSON, the limit is {STEP_BYTES_MAX:,}"
        raise JobStepError(what, name, problem, hint=_LARGE)
    return written


def read_value(what: str, name: str, reader: BodyReader, written: bytes) -> Any:
    """`JobStepError` if it is of another type, perhaps since that has changed."""
    try:
        return reader.read(written, ContentType.JSON)
    except BodyDecodeError as error:
        kind = getattr(reader.annotation, "__qualname__", None) or str(reader.annotation)
        raise JobStepError(what, name, f"what is kept is no `{kind}`: {error.__cause__}", hint=_HINT) from error


def reader_of(name: str, function: Callable[..., Any] | None, wanted: Any) -> BodyReader:
    """For a step by what its function is annotated to return, unless a type is wanted. `JobStepError`."""
    try:
        annotation = wanted if wanted is not None or function is None else _returned(function)
        if annotation is None and function is None:
            return ANYTHING
        return _reader(annotation)
    except (InvalidSettingError, TypeError) as error:
        problem = error.message if isinstance(error, InvalidSettingError) else str(error)
        raise JobStepError("step", name, f"its type is not known: {problem}", hint=_HINT) from error


def _returned(function: Callable[..., Any]) -> Any:
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.isclass(inner):
        return inner
    try:
        annotation = inspect.signature(inner).return_annotation
    except (TypeError, ValueError):  # a builtin
        return Any
    if annotation is inspect.Signature.empty:
        return Any
    found = resolve_annotation(inner, "return", annotation, None)
    if get_origin(found) in (Awaitable, Coroutine):
        found = get_args(found)[-1]
    return Any if found is object else found


@functools.lru_cache(_READERS_KEPT)
def _cached(annotation: Any) -> BodyReader:
    return BodyReader("", annotation)


def _reader(annotation: Any) -> BodyReader:
    try:
        hash(annotation)
    except TypeError:
        return BodyReader("", annotation)
    return _cached(annotation)


ANYTHING: Final = BodyReader("", Any)
