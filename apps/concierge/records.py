"""A message as it lies in the table, as people see it, and the lines of its history."""

from dataclasses import dataclass

import msgspec

from conveyor_apps.tables import Row, Transaction

from . import clock
from .jobs import EmailJob, MessageJob, SmsJob
from .sensitive import Sensitive, veiled
from .words import Channel, State, Urgency


@veiled
@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message; times are milliseconds since the epoch."""

    id: str
    channel: Channel
    recipient: Sensitive
    subject: Sensitive
    content: Sensitive
    priority: Urgency
    once: bool
    """At most once: what may have gone is not sent again."""
    state: State
    version: int
    """Of its text; an edit makes the next."""
    carrier: str | None
    """The id of the queue's message that carries it; None until it lies there."""
    send_at: int | None
    attempt: int
    error: str | None
    provider: str | None
    reference: str | None
    created_by: str
    reviewed_by: str | None
    created_at: int
    updated_at: int
    sent_at: int | None
    ended_at: int | None

    def job(self) -> MessageJob:
        """As it travels."""
        if self.channel is Channel.EMAIL:
            return EmailJob(
                message_id=self.id, recipient=self.recipient, subject=self.subject, content=self.content,
                priority=self.priority,
            )  # fmt: skip
        return SmsJob(message_id=self.id, recipient=self.recipient, content=self.content, priority=self.priority)


@veiled
class MessageView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As people see it. In lists without recipient, subject and content for those who may not read them."""

    id: str
    channel: Channel
    priority: Urgency
    state: State
    version: int
    once: bool
    attempt: int
    error: str | None
    provider: str | None
    created_by: str
    reviewed_by: str | None
    send_at: str | None
    created_at: str
    updated_at: str
    sent_at: str | None
    ended_at: str | None
    recipient: Sensitive | None = None
    subject: Sensitive | None = None
    content: Sensitive | None = None


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a message."""

    number: int
    at: str
    actor: str
    event: str
    """The state that it went into, or `edited`, `rejected`, `retrying`, `waiting`, `resumed`, `sent_again`,
    `late_receipt`."""
    attempt: int
    detail: str


def read_message(row: Row) -> Message:
    """Of a row of `find_message`."""
    (id, channel, recipient, subject, content, priority, once, state, version, carrier, send_at, attempt,
     error, provider, reference, created_by, reviewed_by, created_at, updated_at, sent_at, ended_at) = row  # fmt: skip
    return Message(
        id=id, channel=Channel(channel), recipient=recipient, subject=subject, content=content,
        priority=Urgency(priority), once=bool(once), state=State(state), version=version,
        carrier=carrier, send_at=send_at, attempt=attempt, error=error, provider=provider,
        reference=reference, created_by=created_by, reviewed_by=reviewed_by, created_at=created_at,
        updated_at=updated_at, sent_at=sent_at, ended_at=ended_at,
    )  # fmt: skip


def find_message(tx: Transaction, message: str) -> Message | None:
    """One message, if it is there."""
    rows = tx.rows("find_message", id=message)
    return read_message(rows[0]) if rows else None


def view_of(message: Message, *, with_text: bool) -> MessageView:
    """What somebody may see of it."""
    return MessageView(
        id=message.id, channel=message.channel, priority=message.priority, state=message.state,
        version=message.version, once=message.once, attempt=message.attempt, error=message.error,
        provider=message.provider, created_by=message.created_by, reviewed_by=message.reviewed_by,
        send_at=_iso(message.send_at), created_at=clock.iso(message.created_at),
        updated_at=clock.iso(message.updated_at), sent_at=_iso(message.sent_at), ended_at=_iso(message.ended_at),
        recipient=message.recipient if with_text else None, subject=message.subject if with_text else None,
        content=message.content if with_text else None,
    )  # fmt: skip


def history_of(tx: Transaction, message: str) -> list[HistoryLine]:
    """All that happened to it, the oldest first."""
    return [
        HistoryLine(number=number, at=clock.iso(at), actor=actor, event=event, attempt=attempt, detail=detail)
        for number, at, actor, event, attempt, detail in tx.rows("history_of", message=message)
    ]


def _iso(moment: int | None) -> str | None:
    return None if moment is None else clock.iso(moment)
