"""From what a handler did to one settlement per message. Pure: it runs in the worker, in threads and in child
processes."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import PurePath
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from conveyor.model.beside import SealedBodyError
from conveyor.model.errors import ConveyorError, HandlerTimeoutError
from conveyor.model.events import HandlerRaised, VerdictIgnored
from conveyor.model.message import ERROR_CHARS_MAX, Lease
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import (
    Ack,
    Action,
    DeadReason,
    Judged,
    RateLimited,
    Reject,
    Retry,
    Settlement,
    Snooze,
    TxAck,
    Verdict,
)
from conveyor.queue.delivery import ACK, Batch, Fence, Message, ignored_calls
from conveyor.queue.handler import Handler, Takes
from conveyor.queue.sealing import is_sealed

Chance: TypeAlias = Callable[[], float]
"""Uniform in [0, 1), for jitter."""

_REASON_CHARS_MAX: Final = 200


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a call came to."""

    settlements: list[Settlement]
    """One for every lease of the call."""
    ignored: list[VerdictIgnored] = msgspec.field(default_factory=list)
    raised: HandlerRaised | None = None
    """An error that no settlement tells of, because something else had been said of every message before."""


class Released(Exception):
    """Stands for the error of a call that the worker itself cut short: what is not settled by a word is given back."""


class Delivery:
    """The leases of one call, read for its handler; those whose bodies cannot be read fail alone."""

    __slots__ = ("_batch", "_entries", "_leases", "argument", "messages")

    argument: Message[Any] | Batch[Any] | None
    """None: nothing of it could be read, so that there is no call to make."""

    def __init__(self, handler: Handler, leases: Sequence[Lease], fence: Fence | None = None) -> None:
        self._leases = leases
        self._batch: Batch[Any] | None = Batch(handler.queue) if handler.takes is Takes.BATCH else None
        self._entries = [_read(handler, lease, self._batch, fence) for lease in leases]
        self.messages = [entry for entry in self._entries if isinstance(entry, Message)]
        if self._batch is not None:
            self._batch.messages = self.messages
        self.argument = None if not self.messages else self.messages[0] if self._batch is None else self._batch

    def judge(
        self, returned: object, error: BaseException | None, settings: ConsumerSettings, chance: Chance
    ) -> Outcome:
        """One settlement for every lease, in their order."""
        rest = (self._batch.verdict if self._batch is not None else None) or verdict_of(returned, error)
        heard = _sealed_one(self._leases)
        settlements = [
            settle_as(lease, entry.verdict or rest, error, settings, chance, heard)
            if isinstance(entry, Message)
            else settle_as(lease, entry, entry, settings, chance)
            for lease, entry in zip(self._leases, self._entries, strict=True)
        ]
        ignored = ignored_calls(self._batch, self.messages)
        return Outcome(settlements=settlements, ignored=ignored, raised=_unheard(error, self.messages, settlements))


def judge_one(
    lease: Lease, message: Message[Any] | None, returned: object, error: BaseException | None,
    settings: ConsumerSettings, chance: Chance,
) -> Outcome:  # fmt: skip
    """As `Delivery.judge`, for the one message of a call; None if its body could not be read, which is the error
    then."""
    messages = () if message is None else (message,)
    said = (message.verdict if message is not None else None) or verdict_of(returned, error)
    settlement = settle_as(lease, said, error, settings, chance)
    ignored = ignored_calls(None, messages)
    return Outcome(settlements=[settlement], ignored=ignored, raised=_unheard(error, messages, [settlement]))


def _read(handler: Handler, lease: Lease, batch: Batch[Any] | None, fence: Fence | None) -> Message[Any] | Exception:
    try:
        return Message(lease, handler.reader.read_lease(lease), batch, fence)
    except Exception as error:  # noqa: BLE001  # also of the keys' file: a call that never ends would hold its slot for ever
        return error


def _unheard(
    error: BaseException | None, messages: Sequence[Message[Any]], settlements: Sequence[Settlement]
) -> HandlerRaised | None:
    if error is None or not messages or isinstance(error, (Retry, Reject, RateLimited, Snooze, Released)):
        return None
    if any(settlement.error is not None for settlement in settlements):
        return None
    ids = tuple(message.id for message in messages)
    heard = _sealed_one([each._lease for each in messages])  # noqa: SLF001  # of the same room
    return HandlerRaised(queue=messages[0].queue, message_ids=ids, error=show_error(error, heard))


def _sealed_one(leases: Sequence[Lease]) -> Lease | None:
    """One of a call that came sealed: what the call raises may quote it."""
    return next((each for each in leases if is_sealed(each.body)), None)


def settle_as(
    lease: Lease, said: Verdict | BaseException, error: BaseException | None, settings: ConsumerSettings,
    chance: Chance, heard: Lease | None = None,
) -> Settlement:  # fmt: skip
    """The settlement of a lease of which this was said; an exception that is no verdict is a failed attempt."""
    match said:
        case TxAck():  # committed: it is gone, and nothing finds it; else the attempt has failed
            return settle_as(lease, Retry() if error is None else _unwrapped(error), error, settings, chance, heard)
        case Ack():
            return Settlement(lease.seq, lease.claim)
        case Retry():
            delay_ms = said.delay_ms if said.delay_ms is not None else _backoff_ms(lease, settings, chance)
            reason = _clean(said.reason)
            problem = _beside(said, error, heard or lease) or reason
            return Settlement(lease.seq, lease.claim, Action.RETRY, delay_ms, reason, problem)
        case Reject():
            reason = _clean(said.reason) or DeadReason.REJECTED
            return Settlement(lease.seq, lease.claim, Action.REJECT, None, reason, _beside(said, error, heard or lease))
        case RateLimited():
            rests_key = said.scope == "key"
            return Settlement(
                *(lease.seq, lease.claim, Action.RELEASE, said.after_ms, _clean(said.reason)),
                throttles=not rests_key,
                rests_key=rests_key,
            )
        case Snooze():
            return Settlement(lease.seq, lease.claim, Action.RELEASE, said.after_ms, _clean(said.reason))
        case Judged():
            return Settlement(
                *(lease.seq, lease.claim, said.action, said.delay_ms, _clean(said.reason)),
                _clean(said.error, ERROR_CHARS_MAX),
                outcome=said.outcome,
                parks=said.parks,
            )
        case Released():
            return release(lease)
        case HandlerTimeoutError():
            return fail(lease, show_error(said), settings, chance, reason=DeadReason.TIMEOUT)
        case SealedBodyError():  # no other attempt would open it
            problem = _clean(str(said), ERROR_CHARS_MAX)
            return Settlement(lease.seq, lease.claim, Action.REJECT, None, DeadReason.SEALED, problem)
        case BaseException():
            return fail(lease, show_error(said, heard or lease), settings, chance)
        case _:
            assert_never(said)


def fail(
    lease: Lease, error: str, settings: ConsumerSettings, chance: Chance, *, reason: str | None = None
) -> Settlement:
    """A failed attempt: retried after the consumer's own delay."""
    return Settlement(lease.seq, lease.claim, Action.RETRY, _backoff_ms(lease, settings, chance), reason, error)


def release(lease: Lease, delay_ms: int | None = None) -> Settlement:
    """Given back as if it had never been taken."""
    return Settlement(lease.seq, lease.claim, Action.RELEASE, delay_ms)


def show_error(error: BaseException | None, lease: Lease | None = None) -> str:
    """One short line for people: what it is and what it says; no locals, no traceback. Of a delivery that came sealed
    it says where it was raised instead: an error's own words may hold what was sent."""
    if error is None:
        return ""
    if lease is not None and is_sealed(lease.body):
        return _veil(error)
    try:
        text = error.message if isinstance(error, ConveyorError) else str(error)
    except Exception:  # noqa: BLE001  # a handler's own exception may fail to describe itself
        text = ""
    name = type(error).__name__
    return _clean(f"{name}: {text}" if text else name, ERROR_CHARS_MAX) or name


def _veil(error: BaseException) -> str:
    name = f"{type(error).__name__} [{error.code}]" if isinstance(error, ConveyorError) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return f"{name}, {PurePath(frames[0].filename).name}:{frames[0].lineno} in {frames[0].name}" if frames else name


def verdict_of(returned: object, error: BaseException | None) -> Verdict | BaseException:
    """What a call as a whole says, by its end."""
    if error is not None:
        return _unwrapped(error)
    if returned is None:
        return ACK
    if isinstance(returned, (Ack, Judged, Retry, Reject, RateLimited, Snooze)):
        return returned
    if returned is Retry or returned is Reject:  # `return Retry`, without the parentheses
        return Retry() if returned is Retry else Reject()
    if isinstance(returned, Awaitable):
        return TypeError("the handler returned a coroutine instead of running it: make it `async def`")
    return ACK


def _beside(said: BaseException, error: BaseException | None, lease: Lease) -> str | None:
    """What a call raised besides its verdict."""
    return None if error is None or error is said or isinstance(error, Released) else show_error(error, lease)


def _unwrapped(error: BaseException) -> BaseException:
    """A task group wraps even a single `Retry` in a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _backoff_ms(lease: Lease, settings: ConsumerSettings, chance: Chance) -> int:
    backoff = settings.retry_delay
    return backoff.delay_ms(max(1, lease.attempts), chance() if backoff.jitter else 0.0)


def _clean(text: object, most: int = _REASON_CHARS_MAX) -> str | None:
    """What every store and wire can hold: bounded, without NUL and lone surrogates."""
    if text is None:
        return None
    return str(text)[:most].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
