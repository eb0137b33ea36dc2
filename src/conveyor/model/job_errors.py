"""Errors of jobs: they stand in the tree of `model/errors.py`."""

from __future__ import annotations

from conveyor.model.errors import ConflictError, ConveyorError, NotFoundError


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
