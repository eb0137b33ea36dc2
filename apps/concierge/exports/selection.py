"""What an export is to hold: the `filters` of a job, checked; `{"dataset": "audit", "startDate": "2026-01-01"}`."""

from enum import StrEnum
from typing import Any, Final

import msgspec

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import FieldError
from conveyor_apps.concierge.jobs import decode
from conveyor_apps.concierge.words import Channel, State

from .reading import Bindings

DAY_MS: Final = 86_400_000
NAME_CHARS_MAX: Final = 128
_DATE_CHARS: Final = len("2026-01-31")


class Rows(StrEnum):
    """Of what there are exports."""

    MESSAGES = "messages"
    AUDIT = "audit"


class Selection(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The filters of an export; what is not said is all. A date that ends it is a whole day."""

    dataset: Rows = Rows.MESSAGES
    start_date: str | None = None
    """An ISO date or moment, UTC; of messages when they were written, of the trail when it happened."""
    end_date: str | None = None
    state: State | None = None
    """Of messages."""
    user: str | None = None
    """Who wrote the message, or who did what the trail says."""
    kind: str | None = None
    """Of messages `email` or `sms`; of the trail an action, or a pattern: `message.*`."""

    def check(self) -> None:
        """`FieldError`."""
        for name, text in (("startDate", self.start_date), ("endDate", self.end_date)):
            if text is not None:
                _read_moment(f"filters.{name}", text)
        if self.start_date and self.end_date and self.since >= self.until:
            raise FieldError("filters.endDate", "lies before `startDate`")
        for name, text in (("user", self.user), ("kind", self.kind)):
            if text is not None and not 1 <= len(text) <= NAME_CHARS_MAX:
                raise FieldError(f"filters.{name}", f"must be 1 to {NAME_CHARS_MAX} characters")
        if self.dataset is Rows.AUDIT and self.state is not None:
            raise FieldError("filters.state", "is of messages alone")
        if self.dataset is Rows.MESSAGES and self.kind is not None and self.kind not in set(Channel):
            raise FieldError("filters.kind", "must be `email` or `sms`")

    @property
    def since(self) -> int:
        """The first millisecond."""
        return 0 if self.start_date is None else _read_moment("filters.startDate", self.start_date)

    @property
    def until(self) -> int:
        """The first millisecond that is not part of it any more."""
        if self.end_date is None:
            return 1 << 62
        moment = _read_moment("filters.endDate", self.end_date)
        return moment + DAY_MS if len(self.end_date) == _DATE_CHARS else moment

    @property
    def is_gapless(self) -> bool:
        """Of the trail: whether it holds every record between its first and its last."""
        return self.user is None and self.kind is None

    def bindings(self) -> Bindings:
        """For the statements of `exports.sql`."""
        return {
            "since": self.since, "until": self.until, "state": self.state, "user": self.user, "kind": self.kind,
        }  # fmt: skip


def check_filters(filters: dict[str, Any]) -> Selection:
    """`FieldError` names the filter, and does not repeat what it says."""
    try:
        selection: Selection = decode(filters, Selection)
    except FieldError as error:
        field = "filters" if error.field == "body" else f"filters.{error.field}"
        raise FieldError(field, str(error).partition("` ")[2]) from None
    selection.check()
    return selection


def _read_moment(field: str, text: str) -> int:
    try:
        return clock.read_iso(text)
    except ValueError:
        raise FieldError(field, "must be an ISO date, such as 2026-01-31 or 2026-01-31T12:00:00Z") from None
