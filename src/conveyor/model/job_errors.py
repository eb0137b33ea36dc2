"""Errors of jobs: they stand in the tree of `model/errors.py`."""

from __future__ import annotations

from conveyor.model.errors import ConflictError, ConveyorError, InvalidError, NotFoundError


class JobNotFoundError(NotFoundError):
    code = "job_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"no job has the id `{id}`",
            hint="it was never committed, its queue was purged, or its record has expired: `conveyor jobs list`",
            job_id=id,
        )


class JobExistsError(ConflictError):
    code = "job_exists"

    def __init__(self, name: str, key: str, id: str) -> None:
        super().__init__(
            f"a `{name}` with the unique key `{key}` is there already",
            hint='wait for that one, or use `on_conflict="existing"` or `"replace"`',
            job_id=id,
        )


class JobNotRetriableError(ConflictError):
    code = "job_not_retriable"

    def __init__(self, id: str, state: str) -> None:
        super().__init__(
            f"job `{id}` is {state}, and no dead letter is there to be sent again",
            hint="enqueue it anew; `conveyor jobs explain` says what became of it",
            job_id=id,
            state=state,
        )


class JobEndedError(ConveyorError):
    """A job came to an end that has no result."""

    code = "job_ended"


class JobFailedError(JobEndedError):
    code = "job_failed"

    def __init__(self, name: str, id: str, state: str, error: str | None) -> None:
        super().__init__(
            f"`{name}` is {state}: {error or 'nobody knows why'}",
            hint=f"`conveyor jobs show {id}`; `conveyor jobs retry {id}` tries it again",
            job_id=id,
            state=state,
        )
        self.error = error


class JobCancelledError(JobEndedError):
    code = "job_cancelled"

    def __init__(self, name: str, id: str) -> None:
        super().__init__(f"`{name}` was cancelled", hint="enqueue it anew", job_id=id)


class JobResultExpiredError(JobEndedError):
    code = "job_result_expired"

    def __init__(self, name: str, id: str) -> None:
        super().__init__(
            f"`{name}` succeeded, and its result is kept no longer", hint="raise its `result_ttl`", job_id=id
        )


class JobTimeoutError(ConveyorError, TimeoutError):
    code = "job_timeout"

    def __init__(self, name: str, id: str, timeout_s: float) -> None:
        super().__init__(
            f"`{name}` has not ended within {timeout_s:g} s",
            hint=f"wait longer; `conveyor jobs explain {id}` says why it is not done",
            job_id=id,
        )


class JobStepError(InvalidError):
    """A step that cannot be kept or read back. Another attempt would end as this one did: the job has failed."""

    code = "job_step"

    def __init__(self, kind: str, name: object, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{kind} {name!r}: {problem}", hint=hint or "see docs/how-to/durable-steps.md", step=str(name))


class JobEventTimeoutError(ConveyorError, TimeoutError):
    """A job has waited for an event that did not come. It stays so, also if the event comes later."""

    code = "job_event_timeout"

    def __init__(self, name: str, timeout_s: float) -> None:
        super().__init__(
            f"no event `{name}` came within {timeout_s:g} s",
            hint="catch it to go another way; raised on, the attempt has failed, and so will those after it",
            event=name,
        )


class JobEventRefusedError(ConflictError):
    """An event for a job that has ended, or that has got too many of them."""

    code = "job_event_refused"

    def __init__(self, name: str, id: str, problem: str) -> None:
        super().__init__(
            f"job `{id}` takes no event `{name}`: {problem}",
            hint=f"`conveyor jobs show {id}` says what became of it",
            job_id=id,
            event=name,
        )
