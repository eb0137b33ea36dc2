"""What can befall a message to certain recipients: refused, taken and never answered, answered late, lost later."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Final

import msgspec

from conveyor_apps.sandbox.errors import SandboxSettingError

from .ledger import PostName

MISHAPS_MAX: Final = 1_000
DELAY_MS_MAX: Final = 600_000


class Moment(StrEnum):
    """When an SMTP server says no."""

    RCPT = "rcpt"
    DATA = "data"


class Fate(StrEnum):
    """What becomes of a message that was taken."""

    DELIVERED = "delivered"
    FAILED = "failed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    SILENT = "silent"
    """Nothing is ever heard of it."""


class Mishap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Strikes messages to the recipients that match; the first of a list that strikes is the one."""

    recipient: str = "*"
    """`*` and `?` stand for what they usually do."""
    refuse: Annotated[int, msgspec.Meta(ge=400, le=99_999)] | None = None
    """SMTP: its code, such as 550 or 452. Twilio: its error code, such as 21610. Resend: the status."""
    name: str = ""
    """Resend: the error's name, where the status has several."""
    moment: Moment = Moment.RCPT
    """SMTP: when it is refused."""
    drop: bool = False
    """Take it, and cut the connection instead of answering."""
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=DELAY_MS_MAX)] = 0
    """Take it, and answer so much later."""
    fate: Fate = Fate.DELIVERED
    code: str = ""
    """What the provider says of a fate that is not `delivered`: Twilio's error code, Resend's kind of bounce."""
    every: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Only each n-th message to them."""
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """So often, then no more."""


CALM: Final = Mishap()


def read_mishaps(body: bytes) -> list[Mishap]:
    """Read a list of mishaps from JSON; a name nobody knows is an error."""
    try:
        mishaps = msgspec.json.decode(body, type=list[Mishap])
    except msgspec.DecodeError as error:
        raise SandboxSettingError("mishaps", problem=f"cannot be read: {error}") from error
    if len(mishaps) > MISHAPS_MAX:
        raise SandboxSettingError("mishaps", problem=f"are more than {MISHAPS_MAX}")
    return mishaps


class MishapBook:
    """Holds each provider's mishaps, and counts whom they have met."""

    def __init__(self) -> None:
        self._mishaps: dict[PostName, list[Mishap]] = {}
        self._met: dict[tuple[PostName, int], int] = {}
        self._struck: dict[tuple[PostName, int], int] = {}

    def put(self, provider: PostName, mishaps: Sequence[Mishap]) -> None:
        """Replace a provider's mishaps as a whole; counts begin anew."""
        self._mishaps[provider] = list(mishaps)
        for counts in (self._met, self._struck):
            for place in [each for each in counts if each[0] is provider]:
                del counts[place]

    def shown(self) -> Mapping[PostName, Sequence[Mishap]]:
        """List them by provider."""
        return {name: self._mishaps.get(name, []) for name in PostName}

    def take(self, provider: PostName, recipient: str) -> Mishap:
        """Count one message to this recipient, and say what befalls it."""
        for index, mishap in enumerate(self._mishaps.get(provider, ())):
            if fnmatchcase(recipient, mishap.recipient) and self._strikes((provider, index), mishap):
                return mishap
        return CALM

    def _strikes(self, place: tuple[PostName, int], mishap: Mishap) -> bool:
        self._met[place] = self._met.get(place, 0) + 1
        if self._met[place] % mishap.every or self._struck.get(place, 0) == mishap.times:
            return False
        self._struck[place] = self._struck.get(place, 0) + 1
        return True
