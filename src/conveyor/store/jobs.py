"""What all stores say of jobs, as data, and what follows from it alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from conveyor.model.ids import MessageId
from conveyor.model.job import FINAL, NAME_HEADER, RECORD_MS, JobRecord, JobState
from conveyor.model.message import Peeked
from conveyor.model.rate import Window
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import DeadReason

LOOKED_AT_MAX: Final = 10_000
"""Rows that one look at the jobs walks through."""
AHEAD_MAX: Final = 1_000
NEWEST: Final = MessageId(b"\xff" * 16)


class JobFound(msgspec.Struct, frozen=True, kw_only=True):
    """All that a store knows of a job: its message while that lives, and what was last kept."""

    message: Peeked | None
    record: JobRecord | None

    @property
    def id(self) -> MessageId:
        known = self.message or self.record
        assert known is not None, "one of both is there"
        return known.id

    @property
    def name(self) -> str:
        if self.record is not None:
            return self.record.name
        assert self.message is not None
        return job_name(self.message.headers) or ""

    @property
    def queue(self) -> str:
        """The one it was sent to, also while its message is a dead letter."""
        if self.record is not None:
            return self.record.queue
        assert self.message is not None
        return self.message.queue if self.message.dead is None else self.message.dead.origin_queue

    def state(self, now: int) -> JobState:
        """Derived: the message speaks first, then the record."""
        message, record = self.message, self.record
        if message is not None and message.dead is None:
            if message.leased:
                return JobState.RUNNING
            if message.attempts > 0:
                return JobState.RETRYING
            return JobState.SCHEDULED if message.ready_at > now else JobState.QUEUED
        if record is not None and record.state in FINAL:
            return record.state
        if message is not None and message.dead is not None:
            return dead_state(message.dead.reason)
        return JobState.CANCELLED  # purged with its queue

    def is_final(self, now: int) -> bool:
        return self.state(now) in FINAL


class JobsAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list; newest first."""

    name: str | None = None
    queue: str | None = None
    states: frozenset[JobState] = frozenset()
    """Empty: any."""
    fingerprint: str | None = None
    before: MessageId = NEWEST
    limit: int = 100


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that fit, and from where to go on; None: there are no more."""

    jobs: list[JobFound]
    next_before: MessageId | None


class Obstacles(msgspec.Struct, frozen=True, kw_only=True):
    """What may keep a ready message from being taken."""

    throttled_until: int = 0
    shelf: int | None = 0
    """1: a crash suspect, 2: behind another of its key."""
    releases: int = 0
    slots_held: int = 0
    key_leased: int = 0
    rate_opens_at: int | None = None
    key_opens_at: int | None = None
    ahead: int = 0
    """At most `AHEAD_MAX` are counted, twice: by priority, and in its own line."""


def job_name(headers: bytes | None) -> str | None:
    """The job that a message carries, if it carries one."""
    if headers is None or NAME_HEADER.encode() not in headers:
        return None
    name = read_headers(headers).get(NAME_HEADER)
    return name if isinstance(name, str) else None


def read_headers(headers: bytes | None) -> dict[str, Any]:
    """Empty if they are no object: others may have written them."""
    try:
        found = msgspec.json.decode(headers or b"{}")
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def dead_state(reason: str) -> JobState:
    """What a job is whose message was dead-lettered for this reason."""
    known = {each.value for each in DeadReason} - {DeadReason.REJECTED.value, DeadReason.SEALED.value}
    return JobState.DEAD if reason in known else JobState.FAILED


def fits(asked: JobsAsked, found: JobFound, now: int) -> bool:
    record = found.record
    return (
        (asked.name is None or found.name == asked.name)
        and (asked.queue is None or found.queue == asked.queue)
        and (not asked.states or found.state(now) in asked.states)
        and (asked.fingerprint is None or (record is not None and record.fingerprint == asked.fingerprint))
    )


def unended(
    found: JobFound, now: int, *, state: JobState, attempts: int | None = None, error: str | None = None
) -> JobRecord:
    """The record of a job of which no worker says how it ended."""
    message, record = found.message, found.record
    if attempts is None:
        attempts = message.attempts if message is not None else 0
    is_begun = record is not None and record.ended_at is None and record.started_at > 0
    return JobRecord(
        id=found.id,
        name=found.name,
        queue=found.queue,
        state=state,
        enqueued_at=message.sent_at if message is not None else now,
        started_at=record.started_at if record is not None and is_begun else now,
        ended_at=now,
        attempts=attempts,
        worker=record.worker if record is not None and is_begun else "",
        error=error,
        expires_at=now + RECORD_MS,
    )


def cancelled(found: JobFound, now: int) -> JobRecord:
    """The record of a job that ran when it was cancelled, and whose lease has ended."""
    assert found.record is not None, "the wish stands in it"
    attempts = max(found.record.attempts, 0 if found.message is None else found.message.attempts)
    return unended(found, now, state=JobState.CANCELLED, attempts=attempts)


def merge(ids: Iterable[Collection[MessageId]], limit: int) -> tuple[list[MessageId], bool]:
    """The newest of several lists, each newest first and cut at `limit`; whether there may be more. What one list has
    beyond the end of another that was cut is left for the next look."""
    lists = [list(each) for each in ids]
    floors = [each[-1] for each in lists if len(each) >= limit]
    floor = max(floors, default=MessageId(b""))
    newest = sorted({id for each in lists for id in each if id >= floor}, reverse=True)
    return newest[:limit], bool(floors) or len(newest) > limit


def judge_obstacles(
    consumer: ConsumerSettings | None, now: int, throttled_until: int, shelf: int | None, releases: int,
    slots_held: int, key_leased: int, rate_entries: str | None, key_entries: str | None, key_opens_at: int | None,
    *ahead: int,
) -> Obstacles:  # fmt: skip
    """From the columns of `read_obstacles`."""
    rate, key_rate = (None, None) if consumer is None else (consumer.rate, consumer.key_rate)
    if key_rate is not None and key_entries is not None:
        key_opens_at = max(key_opens_at or 0, Window.decode(key_rate, key_entries).opens_at(now, 1))
    return Obstacles(
        throttled_until=throttled_until, shelf=shelf, releases=releases, slots_held=slots_held, key_leased=key_leased,
        rate_opens_at=None if rate is None else Window.decode(rate, rate_entries).opens_at(now, 1),
        key_opens_at=key_opens_at, ahead=sum(ahead),
    )  # fmt: skip
