"""What a test expects to be enqueued, and how what was enqueued instead is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from conveyor.jobs.function import JobFunction
from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.message import DELAY_MS_MAX, ContentType, Peeked
from conveyor.queue.encoding import encode_body
from conveyor.queue.producer import Queue
from conveyor.store.jobs import job_name

Enqueued: TypeAlias = str | Queue | JobFunction[Any, Any]
"""A queue, by its name or its handle, or a job."""

ANYTHING: Final = object()
SHOWN_MAX: Final = 10
BODY_CHARS_MAX: Final = 200


class Wanted:
    """A message's marks, as far as the test names them."""

    def __init__(
        self, *, payload: object, body: object, delay: Duration | None, key: str | None, priority: int | None
    ) -> None:
        if payload is not ANYTHING and body is not ANYTHING:
            raise TypeError("a job has a `payload`, a message a `body`: give one of them")
        self._word = "payload" if body is ANYTHING else "body"
        self._body = payload if body is ANYTHING else body
        self._delay = delay
        self._delay_ms = None if delay is None else read_duration_ms(delay, name="delay", most_ms=DELAY_MS_MAX)
        self._key = key
        self._priority = priority

    def fits(self, message: Peeked) -> bool:
        return (
            (self._body is ANYTHING or _has_body(message, self._body))
            and self._delay_ms in (None, message.ready_at - message.sent_at)
            and self._key in (None, message.key)
            and self._priority in (None, message.priority)
        )

    def __str__(self) -> str:
        marks = [] if self._body is ANYTHING else [f"{self._word} {self._body!r}"]
        named = {"delay": self._delay, "key": self._key, "priority": self._priority}
        marks += [f"{name} {value!r}" for name, value in named.items() if value is not None]
        return f" with {', '.join(marks)}" if marks else ""

    def instead(self, messages: Sequence[Peeked], matching: Sequence[Peeked]) -> str:
        """What there is, for people who look for what is not."""
        if not messages:
            return "nothing is enqueued there"
        lines = [f"  {'=' if each in matching else '-'} {show_message(each)}" for each in messages[:SHOWN_MAX]]
        more = [f"  and {len(messages) - SHOWN_MAX:,} more"] if len(messages) > SHOWN_MAX else []
        return "\n".join([f"it holds {len(messages):,}, of which {len(matching):,} fit:", *lines, *more])


def queue_of(of: Enqueued) -> str:
    """Where it lies."""
    return of.queue if isinstance(of, JobFunction) else of.name if isinstance(of, Queue) else of


def show(of: Enqueued) -> str:
    return f"job `{of.name}`" if isinstance(of, JobFunction) else f"`{queue_of(of)}`"


def show_message(message: Peeked) -> str:
    """One line: the job it carries, its body, and what is unusual about it."""
    name = job_name(message.headers)
    body = message.body[:BODY_CHARS_MAX].decode("utf-8", "replace")
    marks = [f"job `{name}`"] if name else []
    marks += [body + ("..." if len(message.body) > BODY_CHARS_MAX else "")]
    delay_ms = message.ready_at - message.sent_at
    marks += [f"delay {delay_ms / 1000:g} s"] if delay_ms > 0 and not message.attempts else []
    marks += [f"priority {message.priority}"] if message.priority != _NORMAL else []
    marks += [f"key {message.key!r}"] if message.key is not None else []
    marks += [f"{message.attempts} attempts made"] if message.attempts else []
    return ", ".join(marks)


_NORMAL: Final = 5


def _has_body(message: Peeked, body: object) -> bool:
    if message.content_type is not ContentType.JSON:
        return message.body == (body.encode() if isinstance(body, str) else body)
    encoded, _ = encode_body(body, ContentType.JSON)
    return bool(msgspec.json.decode(message.body) == msgspec.json.decode(encoded))
