"""Errors of the rooms beside the belt, with a place in the tree of model/errors.py."""

from __future__ import annotations

from conveyor.model.errors import ConflictError, ConveyorError, InvalidError, NotFoundError, StoreError


class ScheduleBusyError(ConflictError):
    """Recorded as a skipped run; nothing was sent."""

    code = "schedule_busy"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"schedule `{name}` skips this run: its previous one is not over",
            hint=f'see `conveyor cron history {name}`, or declare the schedule with `overlap="queue"`',
            name=name,
        )


class QueueNotRenamableError(ConflictError):
    """Nothing was written."""

    code = "queue_not_renamable"

    def __init__(self, name: str, problem: str, *, hint: str) -> None:
        super().__init__(f"queue `{name}` keeps its name: {problem}", hint=hint, name=name)


class AlarmNotFoundError(NotFoundError):
    code = "alarm_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"no alarm is named `{name}`", hint="see `conveyor alarms list`", name=name)


class AlarmTakenError(ConflictError):
    code = "alarm_taken"

    def __init__(self, name: str, queue: str) -> None:
        super().__init__(
            f"alarm `{name}` rings in queue `{queue}`",
            hint="alarms' names are global in a store: choose another, or cancel that one",
            name=name,
            queue=queue,
        )


class GroupNotFoundError(NotFoundError):
    code = "group_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"no group has the id `{id}`",
            hint="it was never started, or ended more than 30 days ago: `conveyor groups list`",
            group_id=id,
        )


class GroupGoneError(ConflictError):
    """Its start took so long that what was written of it is gone, or it has begun already."""

    code = "group_gone"

    def __init__(self, id: str) -> None:
        super().__init__(f"group `{id}` cannot be started any more", hint="make a new one", group_id=id)


class GroupTimeoutError(ConveyorError, TimeoutError):
    code = "group_timeout"

    def __init__(self, name: str, id: str, timeout_s: float) -> None:
        super().__init__(
            f"group `{name}` has not ended within {timeout_s:g} s",
            hint=f"wait longer; `conveyor groups show {id}` says what it waits for",
            group_id=id,
        )


class WebhookTargetError(InvalidError):
    code = "webhook_target"

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(f"this webhook's target may not be called: {problem}", hint=hint)


class EndpointNotFoundError(NotFoundError):
    code = "endpoint_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"no endpoint is `{name}`", hint="see `conveyor webhooks list`", name=name)


class DeliveryNotFoundError(NotFoundError):
    code = "delivery_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"no delivery is `{name}`", hint="see `conveyor webhooks deliveries`", name=name)


class EndpointExistsError(ConflictError):
    code = "endpoint_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"endpoint `{name}` of this URL exists already", hint="change it, or remove it", name=name)


class EndpointDisabledError(ConflictError):
    code = "endpoint_disabled"

    def __init__(self, name: str, reason: str) -> None:
        hint = f"when it is well again: `conveyor webhooks enable {name}`"
        super().__init__(f"endpoint `{name}` is disabled: {reason}", hint=hint, name=name)


class WebhookRefusedError(ConveyorError):
    """Why is not said: it would help whoever tries."""

    code = "webhook_refused"

    def __init__(self) -> None:
        super().__init__("the request is not a webhook that we expect", hint="sign it anew, with the present time")


class WebhookFailedError(ConveyorError):
    code = "webhook_failed"

    def __init__(self, problem: str) -> None:
        super().__init__(problem, hint="see `conveyor webhooks deliveries`")


class QueryError(InvalidError):
    """SQLite or a limit refused it; nothing of its request was written."""

    code = "query"

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem, hint=hint)


class BlobRangeError(InvalidError):
    """What was asked to be read lies behind the object's end, or is nothing."""

    code = "blob_range"

    def __init__(self, problem: str) -> None:
        super().__init__(problem, hint="ask for its size with `head`")


class BlobChecksumError(InvalidError):
    """What came is not what was said to come; nothing was stored."""

    code = "blob_checksum"

    def __init__(self, key: str, algorithm: str, wanted: str, found: str) -> None:
        super().__init__(
            f"the bytes of `{key}` have the {algorithm} {found}, not {wanted}",
            hint="they were changed on their way: send them again",
            key=key,
        )


class BucketAwayError(StoreError):
    """A bucket behind HTTP: it did not answer, or refused. A put that was under way left nothing that is visible."""

    code = "bucket_away"

    def __init__(self, bucket: str, problem: str, *, hint: str = "") -> None:
        super().__init__(
            f"bucket `{bucket}` cannot be used: {problem}",
            hint=hint or "is its URL right, and can it be reached from here? see docs/how-to/buckets.md",
            bucket=bucket,
        )


class CronSyntaxError(InvalidError):
    code = "cron_syntax"

    def __init__(self, text: str, problem: str, *, hint: str = "") -> None:
        shown = text if len(text) <= 64 else text[:61] + "..."
        super().__init__(
            f"cron expression `{shown}`: {problem}",
            hint=hint or "five fields: minute hour day-of-month month day-of-week, as in `30 16 * * *`",
            text=shown,
        )


class ScheduleNotFoundError(NotFoundError):
    code = "schedule_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"no schedule is named `{name}`", hint="see `conveyor cron list`", name=name)


class SealedBodyError(ConveyorError):
    """No other attempt would end better: a message of which this is said goes to its dead letter queue at once."""

    code = "body_sealed"

    def __init__(self, queue: str, key_id: str, problem: str, *, hint: str) -> None:
        super().__init__(
            f"a payload in queue `{queue}` is sealed with the key `{key_id}`: {problem}",
            hint=hint,
            queue=queue,
            key_id=key_id,
        )
