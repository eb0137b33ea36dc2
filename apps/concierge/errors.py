"""What can go wrong in concierge.

ConciergeError
  SettingError        a variable of the environment is wrong
  RefusedError        a caller asked for what cannot be; the text is for people, and is shown to them
    FieldError        one field of a job is not what it should be, and `field` names it
  DeliveryError       a provider did not take a message
    PermanentError    and never will: the address is wrong, blocked, or has unsubscribed
    TemporaryError    and certainly has not: another attempt may work
    UnknownError      or perhaps did: the connection broke after all was said. Not repeated for what goes at most once
"""

from enum import StrEnum


class ConciergeError(Exception):
    """The root."""


class SettingError(ConciergeError):
    """A variable of the environment is wrong; the text names it and never shows a secret."""


class RefusedError(ConciergeError):
    """What was asked for cannot be done. The text is shown to people; it holds no content of messages."""

    def __init__(self, text: str, *, status: int = 400, after_s: int | None = None) -> None:
        self.status = status
        self.after_s = after_s
        super().__init__(text)


class FieldError(RefusedError):
    """A field is not what it should be. The text names it, and does not repeat its value."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"`{field}` {problem}", status=422)


class Reason(StrEnum):
    """Why a message will never arrive."""

    INVALID = "invalid_address"
    BLOCKED = "blocked"
    UNSUBSCRIBED = "unsubscribed"
    REFUSED = "refused"
    """The content, or something else that another attempt would not change."""


class DeliveryError(ConciergeError):
    """A provider did not take a message. The text says why, without address and content."""


class PermanentError(DeliveryError):
    """It never will."""

    def __init__(self, reason: Reason, text: str, *, is_lasting: bool = False) -> None:
        """`is_lasting`: not only this message, but every other one to this address."""
        self.reason = reason
        self.is_lasting = is_lasting
        super().__init__(text)


class TemporaryError(DeliveryError):
    """It has not, and another attempt may work; not before `after_s` seconds, if the provider said so."""

    def __init__(self, text: str, *, after_s: float | None = None) -> None:
        self.after_s = after_s
        super().__init__(text)


class UnknownError(DeliveryError):
    """Nobody knows whether it did: the connection broke before the answer."""
