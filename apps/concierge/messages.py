"""The messages: what people do with them, each step with its history and its audit record in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from conveyor_apps.tables import Database, Transaction

from . import clock
from .audit import Trail, Who
from .errors import FieldError, RefusedError
from .jobs import MessageJob, SmsJob
from .moving import move, note
from .outbox import AHEAD_MS, Outbox, outgoing_of
from .records import HistoryLine, Message, find_message, history_of
from .words import Channel, State

T = TypeVar("T")

RELAYED_MAX: Final = 500
AHEAD_DAYS_MAX: Final = 366


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to be sent."""

    job: MessageJob
    once: bool = False
    send_at: int | None = None

    def check(self) -> None:
        """`FieldError`."""
        self.job.check()
        if self.send_at is not None and self.send_at > clock.now_ms() + AHEAD_DAYS_MAX * 86_400_000:
            raise FieldError("sendAt", f"lies more than {AHEAD_DAYS_MAX} days ahead")


class Messages:
    """All of them."""

    def __init__(self, database: Database, outbox: Outbox, trail: Trail) -> None:
        self._database = database
        self._outbox = outbox
        self._trail = trail

    async def find(self, message: str) -> Message | None:
        """One as it stands."""
        return await self._database.read(lambda tx: find_message(tx, message))

    async def history(self, message: str) -> list[HistoryLine]:
        """All that happened to it, the oldest first."""
        return await self._database.read(lambda tx: history_of(tx, message))

    async def compose(self, wish: Wish, who: Who) -> Message:
        """A draft. `FieldError`, `RefusedError` with 409 if the id is taken."""
        wish.check()

        def work(tx: Transaction) -> Message:
            if find_message(tx, wish.job.message_id) is not None:
                raise RefusedError("There is a message with this id already.", status=409)
            message = self._add(tx, wish, State.DRAFT, who)
            self._trail.write(tx, who, "message.compose", message.id)
            return message

        return await self._database.write(work)

    async def enqueue(self, wishes: list[Wish], who: Who) -> list[Message]:
        """Send directly, all or none. One that is there already with the same text is left as it is; `RefusedError`
        with 409 if its text is another."""
        for wish in wishes:
            wish.check()

        def work(tx: Transaction) -> list[Message]:
            found: dict[str, Message] = {}
            added: list[Message] = []
            for wish in wishes:
                message = find_message(tx, wish.job.message_id)
                if message is None:
                    message = self._add(tx, wish, State.QUEUED, who)
                    self._trail.write(tx, who, "message.send", message.id)
                    added.append(message)
                elif message.job() != wish.job:
                    raise RefusedError(f"There is another message `{message.id}` already.", status=409)
                found[message.id] = message
            found.update((each.id, each) for each in self._queue(tx, added))
            return list(found.values())

        return await self._change(work)

    async def edit(self, message: str, wish: Wish, who: Who, *, version: int | None = None) -> Message:
        """Another text, before it goes. What waits in the queue becomes a draft again, unless whoever edits it may
        send directly: then see `send`. `RefusedError` with 409 if it has gone, or `version` is not the latest."""
        wish.check()

        def work(tx: Transaction) -> Message:
            found = self._need(tx, message)
            if version is not None and version != found.version:
                raise RefusedError("Somebody else has changed this message.", status=409)
            if found.state not in (State.DRAFT, State.REVIEW, State.QUEUED) or found.attempt:
                raise RefusedError(f"The message is {found.state}: it cannot be changed any more.", status=409)
            if wish.job.message_id != message or _channel(wish.job) is not found.channel:
                raise FieldError("messageId", "and the channel of a message cannot be changed")
            tx.change("set_text", id=message, **_text(wish))
            note(tx, message, "edited", who.name, attempt=0, detail=f"version {found.version + 1}")
            if found.state is not State.DRAFT:
                move(tx, found, State.DRAFT, who.name, detail="edited")
            self._trail.write(tx, who, "message.edit", message)
            return self._need(tx, message)

        return await self._database.write(work)

    async def submit(self, message: str, who: Who) -> Message:
        """A draft, for review. `RefusedError`."""
        return await self._step(
            message, who, "message.submit", lambda tx, found: move(tx, found, State.REVIEW, who.name)
        )

    async def approve(self, message: str, who: Who, *, own: bool = False) -> Message:
        """Reviewed: it is queued. `RefusedError`; with 403 for one's own, unless `own`."""

        def approve(tx: Transaction, found: Message) -> Message:
            if found.created_by == who.name and not own:
                raise RefusedError("Somebody else has to review this message.", status=403)
            tx.change("set_reviewer", id=message, reviewer=who.name)
            move(tx, found, State.APPROVED, who.name)
            return self._queue(tx, [move(tx, self._need(tx, message), State.QUEUED, who.name)])[0]

        return await self._step(message, who, "message.approve", approve)

    async def reject(self, message: str, who: Who, reason: str) -> Message:
        """Reviewed: it is a draft again, and says why. `RefusedError`."""

        def reject(tx: Transaction, found: Message) -> Message:
            if found.state is not State.REVIEW:
                raise RefusedError(f"The message is {found.state}, not in review.", status=409)
            return move(tx, found, State.DRAFT, who.name, event="rejected", detail=reason)

        return await self._step(message, who, "message.reject", reject)

    async def send(self, message: str, who: Who, *, send_at: int | None = None) -> Message:
        """A draft, without a review: now, or at that moment. `RefusedError`."""

        def send(tx: Transaction, found: Message) -> Message:
            if found.state is not State.DRAFT:
                raise RefusedError(f"The message is {found.state}, no draft.", status=409)
            if send_at is not None:
                tx.change("set_send_at", id=message, send_at=send_at)
            return self._queue(tx, [move(tx, self._need(tx, message), State.QUEUED, who.name)])[0]

        return await self._step(message, who, "message.send", send)

    async def cancel(self, message: str, who: Who) -> Message:
        """It does not go. `RefusedError` with 409 once somebody has begun to send it."""
        return await self._step(
            message, who, "message.cancel", lambda tx, found: move(tx, found, State.CANCELLED, who.name)
        )

    async def relay(self) -> int:
        """Send what is due and does not lie in the queue: what goes later than a day after it was queued, and what a
        crash left behind. How many."""

        def work(tx: Transaction) -> list[Message]:
            ids = [str(each) for (each,) in tx.rows("due", until=tx.now_ms + AHEAD_MS, limit=RELAYED_MAX)]
            return self._queue(tx, [self._need(tx, each) for each in ids])

        return len(await self._change(work))

    async def _step(
        self, message: str, who: Who, action: str, step: Callable[[Transaction, Message], Message]
    ) -> Message:
        def work(tx: Transaction) -> list[Message]:
            after = step(tx, self._need(tx, message))
            self._trail.write(tx, who, action, message)
            return [after]

        return (await self._change(work))[0]

    async def _change(self, work: Callable[[Transaction], list[Message]]) -> list[Message]:
        """In one transaction; what could not be sent in it is sent now."""
        messages = await self._database.write(work)
        if self._outbox.joins:
            return messages
        now_ms = clock.now_ms()
        near = [each for each in messages if each.state is State.QUEUED and each.carrier is None]
        near = [each for each in near if _is_near(each, now_ms)]
        carriers = await self._outbox.send([outgoing_of(each, now_ms) for each in near])

        def tell(tx: Transaction) -> None:
            for message, carrier in zip(near, carriers, strict=True):
                tx.change("set_carrier", id=message.id, carrier=carrier)

        await self._database.write(tell)
        return messages

    def _add(self, tx: Transaction, wish: Wish, state: State, who: Who) -> Message:
        channel, text = _channel(wish.job), _text(wish)
        tx.change("add_message", id=wish.job.message_id, channel=channel, state=state, created_by=who.name, **text)
        note(tx, wish.job.message_id, state, who.name, attempt=0)
        return self._need(tx, wish.job.message_id)

    def _queue(self, tx: Transaction, messages: Sequence[Message]) -> list[Message]:
        """Those that can be sent within the transaction are."""
        if not self._outbox.joins:
            return list(messages)
        near = [each for each in messages if _is_near(each, tx.now_ms)]
        carriers = self._outbox.send_in(tx, [outgoing_of(each, tx.now_ms) for each in near])
        for message, carrier in zip(near, carriers, strict=True):
            tx.change("set_carrier", id=message.id, carrier=carrier)
        return [self._need(tx, each.id) for each in messages]

    def _need(self, tx: Transaction, message: str) -> Message:
        found = find_message(tx, message)
        if found is None:
            raise RefusedError("There is no such message.", status=404)
        return found


def _is_near(message: Message, now_ms: int) -> bool:
    return message.send_at is None or message.send_at - now_ms <= AHEAD_MS


def _channel(job: MessageJob) -> Channel:
    return Channel.SMS if isinstance(job, SmsJob) else Channel.EMAIL


def _text(wish: Wish) -> dict[str, str | int | None]:
    job = wish.job
    return {
        "recipient": job.recipient, "subject": getattr(job, "subject", ""), "content": job.content,
        "priority": job.priority, "once": int(wish.once), "send_at": wish.send_at,
    }  # fmt: skip
