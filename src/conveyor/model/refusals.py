"""What a server refuses before it does anything: errors with a place in the tree of model/errors.py, and a status where
the kind alone does not give it."""

from __future__ import annotations

from conveyor.model.errors import ConveyorError, InvalidError


class InvalidRequestError(InvalidError):
    """`status` is that of HTTP: 400, or 404, 405, 411, 413, 415, 422 or 431."""

    code = "invalid_request"

    def __init__(self, problem: str, *, hint: str = "", status: int = 400, **facts: object) -> None:
        super().__init__(problem, hint=hint, **facts)
        self.status = status


class VersionRequiredError(InvalidRequestError):
    """An edit must say from which version it was made."""

    code = "version_required"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"`If-Match` is missing: which version of {kind} `{name}` was the change made from",
            hint="send the `ETag` of a GET as `If-Match`, or `If-Match: *` to overwrite whatever is there",
            status=428,
            kind=kind,
            name=name,
        )


class UnauthenticatedError(ConveyorError):
    """The same words whatever is wrong with the token."""

    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__(
            "no valid token", hint="send `Authorization: Bearer cvy_...`; `conveyor tokens create` makes one"
        )


class LinkRefusedError(ConveyorError):
    """A link to an object: the same words whether it is not ours, for something else, or too old."""

    code = "link_refused"

    def __init__(self) -> None:
        super().__init__("this link is not valid, or not any more", hint="ask whoever gave it for another one")


class ForbiddenError(ConveyorError):
    code = "forbidden"

    def __init__(self, right: str) -> None:
        super().__init__(
            f"this token has no right to `{right}` here",
            hint="use another token, or make one with `conveyor tokens create`",
            right=right,
        )


class MisdirectedError(ConveyorError):
    """`status` is 421 for a Host, 403 for an Origin."""

    code = "misdirected"

    def __init__(self, problem: str, *, status: int = 421) -> None:
        super().__init__(problem, hint="name the host with `--host`, or list it with `--allow-host`")
        self.status = status


class TooManyRequestsError(ConveyorError):
    code = "too_many_requests"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many requests", hint=f"wait {retry_after_s:.0f} s", retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s
