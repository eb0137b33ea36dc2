"""The whole tree of errors, with their codes and hints.

    ConveyorError
    |- InvalidError                 what was asked cannot be right
    |  |- InvalidSettingError       a queue, consumer or store setting
    |  |- InvalidDurationError      a delay, timeout or time to live
    |  |- InvalidMessageError       a priority, key, header or content type
    |  |- BodyTooLargeError         a body, or a batch of bodies
    |  |- InvalidTransactionError   `tx=` is no open transaction of the store's own database
    |  |- CronSyntaxError           a schedule's expression
    |  |- WebhookTargetError        a webhook's URL, or an address of its host
    |  |- InvalidKeyError           a kv key, value, metadata or ttl
    |  |- BlobRangeError            bytes behind an object's end
    |  |- BlobChecksumError         an object's bytes are not those that were announced
    |  |- JobStepError              a step's name or result, or what is kept of it
    |  |- QueryError                a statement that somebody sent to a D1 database
    |  `- InvalidRequestError       what came over HTTP
    |     `- VersionRequiredError    an edit without `If-Match`
    |- NotFoundError
    |  |- QueueNotFoundError
    |  |- ScheduleNotFoundError
    |  |- AlarmNotFoundError
    |  |- GroupNotFoundError
    |  |- EndpointNotFoundError
    |  |- DeliveryNotFoundError
    |  `- JobNotFoundError
    |- ConflictError
    |  |- QueueExistsError
    |  |- QueueNotRenamableError  what lies in it is bound to its name
    |  |- AlarmTakenError           another app has an alarm of this name
    |  |- GroupGoneError            what was written of its start is gone, or it has begun
    |  |- EndpointExistsError
    |  |- EndpointDisabledError
    |  |- ConsumerConflictError     one consumer per queue
    |  |- JobExistsError            on_conflict="raise", and there is one with this key
    |  |- JobNotRetriableError      there is nothing that could be tried again
    |  |- JobEventRefusedError      the job has ended
    |  |- VersionConflictError      somebody else changed it since it was read
    |  `- ScheduleBusyError         overlap="skip", and the previous run is not over
    |- UnauthenticatedError         no token, or none that is valid
    |- LinkRefusedError             a link to an object is not ours, or too old
    |- ForbiddenError               the token's rights do not reach so far
    |- MisdirectedError             the Host or Origin is none of ours
    |- TooManyRequestsError         a rate limit is reached
    |- QueueFullError               a backlog limit is reached
    |- WebhookRefusedError
    |- WebhookFailedError
    |- LeaseLostError               somebody else holds the message now
    |- BodyDecodeError              a body does not fit the handler's type
    |- SealedBodyError              a payload is encrypted, and cannot be opened here
    |- HandlerTimeoutError          a handler ran longer than it may
    |- JobEndedError                a job has no result to wait for
    |  |- JobFailedError            it failed for good
    |  |- JobCancelledError
    |  `- JobResultExpiredError     `result_ttl` is over
    |- JobTimeoutError              a job has not ended in the time that somebody waited
    |- JobEventTimeoutError         a job has waited for an event that did not come
    |- GroupTimeoutError            a group has not ended in the time that somebody waited
    |- AppLoadError                 MODULE:APP cannot be loaded
    `- StoreError                   the database refused
       |- StoreClosedError
       |- StoreReadOnlyError
       |- StoreFullError
       |- StoreBusyError
       |- StoreAwayError           it does not answer
       |- QueueUnavailableError    a queue behind HTTP does not answer, or refuses us for now
       |- BucketAwayError          a bucket behind HTTP does not answer, or refuses
       |- StoreInUseError          a restore or a move would pull the store from under somebody
       |- StoreCorruptError
       |- StoreUnsupportedError     library, file system or schema that cannot be trusted
       |  `- StoreMovedError         `conveyor move` took its messages elsewhere, or has not ended
       `- OutcomeUnknownError       the answer to a commit was lost

Messages name the thing in backticks and start lower-case; hints are commands or settings.
"""

from __future__ import annotations

from typing import ClassVar


class ConveyorError(Exception):
    """Anything conveyor raises on purpose: `code` for programs, `hint` for people, `facts` for both."""

    code: ClassVar[str] = "conveyor_error"
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidError(ConveyorError):
    """What was asked cannot be right; nothing was written."""

    code = "invalid"


class InvalidSettingError(InvalidError):
    code = "invalid_setting"

    def __init__(self, name: str, value: object, problem: str, *, hint: str = "") -> None:
        super().__init__(f"setting `{name}` is {value!r}: {problem}", hint=hint, name=name, value=value)


class InvalidDurationError(InvalidError):
    code = "invalid_duration"

    def __init__(self, name: str, value: object, problem: str) -> None:
        super().__init__(
            f"`{name}` is {value!r}: {problem}",
            hint='give seconds, a timedelta, or text such as "90s", "5m", "2h", "1d"',
            name=name,
            value=value,
        )


class InvalidMessageError(InvalidError):
    code = "invalid_message"

    def __init__(self, field: str, value: object, problem: str, *, hint: str = "") -> None:
        super().__init__(f"`{field}` is {value!r}: {problem}", hint=hint, field=field, value=value)


class BodyTooLargeError(InvalidError):
    code = "body_too_large"

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{what} is {size_bytes:,} bytes, the limit is {limit_bytes:,}",
            hint="keep the data elsewhere and send a reference to it, or raise the limit in the queue's settings",
            size_bytes=size_bytes,
            limit_bytes=limit_bytes,
        )


class InvalidTransactionError(InvalidError):
    code = "invalid_transaction"

    def __init__(self, tx: object, problem: str, *, hint: str = "") -> None:
        kind = f"{type(tx).__module__}.{type(tx).__qualname__}"
        super().__init__(f"`tx` is a `{kind}`: {problem}", hint=hint, kind=kind)


class InvalidKeyError(InvalidError):
    code = "invalid_key"

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem, hint=hint)


class NotFoundError(ConveyorError):
    code = "not_found"


class QueueNotFoundError(NotFoundError):
    code = "queue_not_found"

    def __init__(self, name: str, *, now: str | None = None) -> None:
        """`now` is what the queue of this name is called since somebody renamed it."""
        declare = f"declare it with `@app.consumer({name!r})` or `app.declare_queue({name!r})`"
        renamed = f"it was renamed, and is `{now}` now: say so in your app; or, for a new queue of this name, {declare}"
        super().__init__(f"no queue is named `{name}`", hint=declare if now is None else renamed, name=name)
        self.now = now


class ConflictError(ConveyorError):
    code = "conflict"


class QueueExistsError(ConflictError):
    code = "queue_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"queue `{name}` exists already", hint=f"see `conveyor queues info {name}`", name=name)


class ConsumerConflictError(ConflictError):
    code = "consumer_conflict"

    def __init__(self, queue: str, present: str, wanted: str) -> None:
        super().__init__(
            f"queue `{queue}` is consumed by `{present}`, so `{wanted}` cannot consume it too",
            hint="one consumer per queue: give each app a queue of its own, or remove the other consumer",
            queue=queue,
            present=present,
            wanted=wanted,
        )


class VersionConflictError(ConflictError):
    """Nothing was written."""

    code = "version_conflict"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"{kind} `{name}` was changed by somebody else", hint="read it again, then change it", kind=kind, name=name
        )


class QueueFullError(ConveyorError):
    """The queue's backlog limit is reached; nothing was written."""

    code = "queue_full"

    def __init__(self, name: str, what: str, value: int, limit: int) -> None:
        super().__init__(
            f"queue `{name}` is full: {what} would be {value:,}, the limit is {limit:,}",
            hint="start more workers, purge the queue, or raise the limit in the queue's settings",
            name=name,
            value=value,
            limit=limit,
        )


class LeaseLostError(ConveyorError):
    """The message was given to somebody else, so this attempt may no longer speak for it."""

    code = "lease_lost"

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"the lease of message `{message_id}` is lost",
            hint="its work runs again elsewhere: make the handler idempotent by the message id",
            message_id=message_id,
        )


class BodyDecodeError(ConveyorError):
    code = "body_decode"

    def __init__(self, queue: str, expected: str, problem: str) -> None:
        super().__init__(
            f"a body in queue `{queue}` is not a `{expected}`: {problem}",
            hint="send what the handler's annotation says, or change the annotation",
            queue=queue,
            expected=expected,
        )


class HandlerTimeoutError(ConveyorError):
    code = "handler_timeout"

    def __init__(self, queue: str, timeout_s: float) -> None:
        super().__init__(
            f"a handler of queue `{queue}` ran longer than {timeout_s:g} s",
            hint="raise the consumer's `timeout`, or split the work",
            queue=queue,
            timeout_s=timeout_s,
        )


class AppLoadError(ConveyorError):
    code = "app_load"

    def __init__(
        self, target: str, problem: str, *, hint: str = "name it as MODULE:VARIABLE, as in `shop.jobs:app`"
    ) -> None:
        super().__init__(f"cannot load `{target}`: {problem}", hint=hint, target=target)


class StoreError(ConveyorError):
    """The database refused; unless it is `OutcomeUnknownError`, nothing was written."""

    code = "store_error"


class StoreClosedError(StoreError):
    code = "store_closed"

    def __init__(self) -> None:
        super().__init__("the store is closed", hint="use the app inside `async with app:`")


class StoreReadOnlyError(StoreError):
    code = "store_read_only"

    def __init__(self, where: str, *, problem: str = "", hint: str = "") -> None:
        super().__init__(
            f"`{where}` cannot be written" + (f": {problem}" if problem else ""),
            hint=hint or "check the owner and mode of the file and its folder",
            where=where,
        )


class StoreFullError(StoreError):
    code = "store_full"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"the disk of `{where}` is full", hint="free some space: work goes on without a restart", where=where
        )


class StoreBusyError(StoreError):
    code = "store_busy"

    def __init__(self, where: str, waited_s: float = 0, *, problem: str = "", hint: str = "") -> None:
        super().__init__(
            problem or f"`{where}` was locked by another process for {waited_s:g} s",
            hint=hint or "look for a long transaction or a backup tool that holds the file",
            where=where,
        )


class StoreAwayError(StoreError):
    """It did not answer for as long as a call may wait; nothing was written. Where there are several, the others go
    on."""

    code = "store_away"

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(
            f"`{where}` cannot be reached: {problem}",
            hint="is it running? work goes on when it is; `conveyor doctor` looks, and `?patience=` says how many"
            " seconds a call waits for it",
            where=where,
        )


class QueueUnavailableError(StoreError):
    """A queue behind HTTP: it did not answer, or refused, for as long as we tried."""

    code = "queue_unavailable"

    def __init__(self, where: str, problem: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(
            f"`{where}` is not available: {problem}",
            hint=hint or "is it up, and can it be reached from here? `?patience=` says how many seconds we try again",
            where=where,
        )
        self.retry_after_s = retry_after_s


class StoreInUseError(StoreError):
    code = "store_in_use"

    def __init__(self, where: str, users: str, *, hint: str = "") -> None:
        super().__init__(
            f"`{where}` is in use by {users}",
            hint=hint or "stop every process that uses it; `--force` goes on all the same",
            where=where,
        )


class StoreCorruptError(StoreError):
    code = "store_corrupt"

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(
            f"`{where}` is damaged: {problem}", hint="restore a backup; do not write to the file", where=where
        )


class StoreUnsupportedError(StoreError):
    code = "store_unsupported"


class StoreMovedError(StoreUnsupportedError):
    """`conveyor move` took what was here to another store, or has not ended yet: nobody may write here."""

    code = "store_moved"


class OutcomeUnknownError(StoreError):
    """The commit was sent and its answer lost: the work may or may not be in the store."""

    code = "outcome_unknown"

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"the store did not say whether it committed: {problem}",
            hint="send again with the same `dedupe` key",
        )
