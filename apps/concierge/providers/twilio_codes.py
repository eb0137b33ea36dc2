"""What Twilio's numbers mean for a text message: never, or later, and whose trouble it is."""

from dataclasses import dataclass
from typing import Final

from conveyor_apps.concierge.errors import PermanentError, Reason, TemporaryError

from .trouble import ProviderBusyError, ProviderDownError, say

NAME: Final = "twilio"
MINUTE_S: Final = 60.0
HOUR_S: Final = 3_600.0
DAY_S: Final = 86_400.0

NEVER: Final = {
    21211: Reason.INVALID,  # no valid number
    21214: Reason.INVALID,  # cannot be reached
    21217: Reason.INVALID,
    21408: Reason.BLOCKED,  # we may not send to this region
    21610: Reason.UNSUBSCRIBED,  # STOP
    21612: Reason.INVALID,  # not reachable from our number
    21614: Reason.INVALID,  # no mobile phone
    21602: Reason.REFUSED,  # no text
    21617: Reason.REFUSED,  # too long
    30004: Reason.BLOCKED,  # by the recipient, or its device
    30005: Reason.INVALID,  # nobody has this number
    30006: Reason.INVALID,  # a landline
    30007: Reason.BLOCKED,  # filtered by the carrier
    30010: Reason.REFUSED,  # dearer than we pay
    30019: Reason.REFUSED,  # too large for the carrier
    30450: Reason.BLOCKED,  # the carrier's own block
}
"""What no other attempt would change."""
LASTING: Final = frozenset({21211, 21217, 21610, 21614, 30005})
"""Of these, those of the number itself: no number, no phone, nobody's, and STOP. Nothing else arrives there either."""
LATER: Final = {
    30001: MINUTE_S,  # Twilio's own queue is full
    30003: 30 * MINUTE_S,  # the phone is off or out of reach
    30008: 5 * MINUTE_S,  # the carrier does not say
    30009: MINUTE_S,  # a part was lost on the way
    30017: 2 * MINUTE_S,  # the carrier's network is congested
    30018: 10 * MINUTE_S,  # the carrier wants another look at us
    30022: MINUTE_S,  # the carrier's rate for our numbers is spent
    30023: DAY_S,  # and the day's
    30410: 2 * MINUTE_S,  # the carrier did not answer in time
}
"""What the carrier may take after so long: each has a wait of its own."""
OURS: Final = frozenset({20003, 20005, 20008, 21606, 21603, 21660, 21659, 30002, 30032, 30034, 63038})
"""Our account, our number, our registration: every message would fail, so the provider is as good as down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What Twilio said to a message: its status and code."""

    status: int
    code: int
    after_s: float

    def error(self) -> PermanentError | TemporaryError:
        """What that amounts to."""
        words = f"refused with {self.status} {self.code}"
        if self.code in NEVER:
            return PermanentError(NEVER[self.code], say(NAME, words), is_lasting=self.code in LASTING)
        if self.status == 429 or self.code in {20429, 63018}:
            return ProviderBusyError(NAME, words, after_s=self.after_s)
        if self.code in OURS or self.status in {401, 403, 404} or self.status >= 500:
            return ProviderDownError(NAME, words)
        if self.code in LATER:
            return TemporaryError(say(NAME, words), after_s=LATER[self.code])
        return PermanentError(Reason.REFUSED, say(NAME, words))
