"""What may be said: facts by a list of names, errors by kind and place, and no word of the present job's text."""

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import PurePath
from typing import Final

from conveyor_apps.concierge.errors import ConciergeError, DeliveryError, PermanentError, RefusedError, SettingError
from conveyor_apps.concierge.sensitive import STARS, strike, values_of, words_of

FACTS: Final = frozenset({
    "alert", "attempt", "attempts", "bytes", "channel", "count", "delay_ms", "error", "event", "export", "job",
    "job_id", "level", "limit", "message", "message_id", "outcome", "place", "provider", "queue", "reason", "rows",
    "run", "schedule", "seconds", "state", "status", "target", "type", "version", "wait_ms", "worker",
})  # fmt: skip
"""The names that facts may have; what is called otherwise is left out."""
LABELS_CHARS_MAX: Final = 64
_OURS: Final = frozenset({"channel", "event", "level", "outcome", "provider", "state", "target", "type"})
"""Facts whose words are of lists of ours: a message that says `email` does not hide its own channel."""
_MADE: Final = re.compile(r"(msg|export|notice|demo|test-(email|sms|export))-[0-9a-f]{12,32}")
"""Ids that concierge has made itself say nothing of anybody."""
_FACT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),:;]+@[^\s<>\"'(),:;]+")
_PHONE: Final = re.compile(r"\+?\d(?:[ ()./-]?\d){6,14}")
_HIDDEN: Final[ContextVar[frozenset[str]]] = ContextVar("concierge_hidden", default=frozenset())
_OUR_OWN: Final = (DeliveryError, RefusedError, SettingError)
"""Errors whose words are ours."""


@contextmanager
def hiding(*things: object) -> Iterator[None]:
    """Until the end of the block, no word of their sensitive fields is said."""
    words = words_of(*(value for thing in things for value in values_of(thing)))
    token = _HIDDEN.set(_HIDDEN.get() | words)
    try:
        yield
    finally:
        _HIDDEN.reset(token)


def redact(text: str) -> str:
    """A text of ours without addresses, phone numbers and the words of the present job."""
    text = _PHONE.sub(STARS, _ADDRESS.sub(STARS, text))
    return strike(text, _HIDDEN.get())


def safe_facts(facts: Mapping[str, object]) -> dict[str, str | float]:
    """Those that may be said: numbers, and short words without a space or an `@`."""
    return {name: _safe_fact(name, value) for name, value in facts.items() if name in FACTS and value is not None}


def _safe_fact(name: str, value: object) -> str | float:
    if isinstance(value, (int, float)):
        return value
    text = str(value)
    is_ours = name in _OURS or _MADE.fullmatch(text) is not None
    return text if _FACT.fullmatch(text) and (is_ours or strike(text, _HIDDEN.get()) == text) else STARS


def safe_error(error: BaseException) -> str:
    """What it is and where it was raised; its words only where they are ours."""
    name = type(error).__name__
    if isinstance(error, PermanentError):
        return f"{name}: {error.reason}"
    if isinstance(error, _OUR_OWN):
        return redact(f"{name}: {error}")
    place = place_of(error)
    return f"{name}, {place}" if place else name


def safe_value(error: BaseException | None) -> str:
    """The words of an error, where they are ours."""
    return redact(str(error)) if isinstance(error, ConciergeError) else ""


def place_of(error: BaseException) -> str:
    """`processors.py:42 in send`, or nothing."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return f"{PurePath(frames[0].filename).name}:{frames[0].lineno} in {frames[0].name}" if frames else ""
