"""The document's four types of jobs, as they travel in the queue `message-delivery`, with their checks.

On the wire their fields are in camelCase: `{"type": "email_send", "messageId": "msg-123", ...}`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from . import clock
from .errors import FieldError
from .sensitive import MARK, Sensitive, veiled
from .words import Channel, Format, Role, Target, Urgency

J = TypeVar("J")

SUBJECT_CHARS_MAX: Final = 255
EMAIL_BYTES_MAX: Final = 50_000
"""In UTF-8: with its quotes and line ends escaped it still fits into a message of a queue."""
SMS_CHARS_MAX: Final = 1_600
"""Ten segments: Twilio takes no more."""
ADDRESS_CHARS_MAX: Final = 254
LOCAL_CHARS_MAX: Final = 64
FILTERS_MAX: Final = 20

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"({_LABEL}\.)*{_LABEL}")
_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}")


@veiled
class EmailJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="email_send"):
    """An e-mail on its way."""

    message_id: str
    recipient: Sensitive
    subject: Sensitive
    content: Sensitive
    priority: Urgency = Urgency.NORMAL

    def check(self) -> None:
        """`FieldError`."""
        check_id("messageId", self.message_id)
        check_email("recipient", self.recipient)
        check_subject("subject", self.subject)
        check_content("content", self.content, most=EMAIL_BYTES_MAX, size=len(self.content.encode("utf-8", "replace")))


@veiled
class SmsJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="sms_send"):
    """A text message on its way."""

    message_id: str
    recipient: Sensitive
    """E.164: `+491701234567`."""
    content: Sensitive
    priority: Urgency = Urgency.NORMAL

    def check(self) -> None:
        """`FieldError`."""
        check_id("messageId", self.message_id)
        check_phone("recipient", self.recipient)
        check_content("content", self.content, most=SMS_CHARS_MAX, size=len(self.content))


@veiled
class ExportJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="export_generation"):
    """An export to be written."""

    export_id: str
    filters: Annotated[dict[str, Any], MARK]
    user_id: str
    format: Format

    def check(self) -> None:
        """`FieldError`. What the filters say is checked by whoever knows them: `exports.check_filters`."""
        check_id("exportId", self.export_id)
        check_id("userId", self.user_id)
        if len(self.filters) > FILTERS_MAX:
            raise FieldError("filters", f"has more than {FILTERS_MAX} entries")


class CleanupJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="cleanup"):
    """What is older than a moment is to go."""

    target: Target
    older_than: str
    """An ISO date or moment."""

    def check(self) -> None:
        """`FieldError`."""
        try:
            clock.read_iso(self.older_than)
        except ValueError:
            raise FieldError("olderThan", "must be an ISO date, such as 2026-01-31 or 2026-01-31T12:00:00Z") from None


Job: TypeAlias = EmailJob | SmsJob | ExportJob | CleanupJob
MessageJob: TypeAlias = EmailJob | SmsJob

CHOICES: Final[Mapping[str, Iterable[str]]] = {
    "type": [str(each.__struct_config__.tag) for each in (EmailJob, SmsJob, ExportJob, CleanupJob)],
    "priority": Urgency, "format": Format, "target": Target, "channel": Channel, "role": Role,
}  # fmt: skip
"""What fields of these names may be, to be said to whoever wrote something else."""
_PATH: Final = re.compile(r" - at `\$\.?([^`]*)`")
_MISSING: Final = re.compile(r"missing required field `([^`]+)`|contains unknown field `([^`]+)`")


def read_job(data: bytes | dict[str, Any]) -> Job:
    """A job out of JSON, checked. `FieldError` names the field."""
    job: Job = decode(data, Job)
    job.check()
    return job


def decode(data: bytes | dict[str, Any], kind: Any) -> Any:
    """JSON as this type. `FieldError` names the field that is not as it should be, and repeats no value."""
    try:
        return msgspec.json.decode(data, type=kind) if isinstance(data, bytes) else msgspec.convert(data, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PATH.search(text)
        at = place.group(1) if place else ""
        lost = _MISSING.search(text)
        if lost and lost.group(1):
            raise FieldError(_join(at, lost.group(1)), "is missing") from None
        if lost:
            raise FieldError(_join(at, lost.group(2)), "is no field of this") from None
        raise FieldError(at or "body", _problem(at, text.partition(" - at ")[0])) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise FieldError("body", "is not JSON") from None


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _problem(at: str, text: str) -> str:
    if text.startswith(("Invalid enum value", "Invalid value")):
        values = CHOICES.get(at.rpartition(".")[2], ())
        return f"must be one of {', '.join(values)}" if values else "is none of the values that it may have"
    if text.startswith("Expected "):
        return "must be " + text.removeprefix("Expected ").partition(", got")[0]
    return "is not what it should be"


def check_id(field: str, value: str) -> None:
    """Letters, digits and `. _ : -`. `FieldError`."""
    if not _ID.fullmatch(value):
        raise FieldError(field, "must be 1 to 128 letters, digits or `. _ : -`, and begin with a letter or a digit")


def check_email(field: str, value: str) -> None:
    """One plain address, without a name: no header can be smuggled in with it. `FieldError`."""
    local, _, domain = value.rpartition("@")
    is_short = len(value) <= ADDRESS_CHARS_MAX and len(local) <= LOCAL_CHARS_MAX
    if not is_short or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise FieldError(field, "must be one e-mail address, such as mia@example.com")


def check_phone(field: str, value: str) -> None:
    """`FieldError`."""
    if not _PHONE.fullmatch(value):
        raise FieldError(field, "must be a phone number in E.164, such as +491701234567")


def check_subject(field: str, value: str) -> None:
    """`FieldError`."""
    if not value.strip() or len(value) > SUBJECT_CHARS_MAX or not value.isprintable():
        raise FieldError(field, f"must be one line of 1 to {SUBJECT_CHARS_MAX} characters")


def check_content(field: str, value: str, *, most: int, size: int) -> None:
    """`FieldError`."""
    if not value.strip():
        raise FieldError(field, "is empty")
    if size > most:
        raise FieldError(field, f"is longer than {most:,}")
    if any(unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\r\t" for sign in value):
        raise FieldError(field, "holds control characters")
