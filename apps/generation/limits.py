"""How often a provider is given an order, over all workers: as the settings say, counted by conveyor's store.

A provider counts what arrives, and we what sets out. So that no delay on the way puts more into one of its minutes than
it allows, ours are `MARGIN_S` longer, and an order that has not set out by half of that gives its turn back unused.
"""

import re
from collections.abc import Callable
from typing import Final

from conveyor import Limiter

from .errors import SettingError
from .provider_errors import ProviderError, ProviderLimitedError
from .records import ProviderName

MARGIN_S: Final = 3
CONNECT_S_MAX: Final = MARGIN_S / 2
"""For the way to the provider; what sets out later is given back."""
_RATE: Final = re.compile(r"(\d{1,7})/(\d{0,7})([smhd])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class ProviderLimits:
    """Gives turns."""

    def __init__(self, limiter: Callable[[str, str], Limiter], rate: str, now_ms: Callable[[], int]) -> None:
        self._limiter = limiter
        self._rate = stretched(rate)
        self._now_ms = now_ms

    async def enter(self, provider: ProviderName) -> int:
        """A turn to give this provider one order now: until when, in the store's milliseconds.
        `ProviderLimitedError` as long as all are taken."""
        wait_s = await self._limiter(f"generation-{provider}", self._rate).take()
        if wait_s > 0:
            raise ProviderLimitedError(provider, "all its turns are taken just now", after_s=wait_s, status=None)
        return self._now_ms() + round((MARGIN_S - CONNECT_S_MAX) * 1000)

    async def hear(self, provider: ProviderName, error: ProviderError) -> None:
        """Where the provider itself says that it is given too many, nobody gives it any for as long as it says."""
        if isinstance(error, ProviderLimitedError) and error.status is not None:
            await self._limiter(f"generation-{provider}", self._rate).rest(error.after_s)

    def check(self, provider: ProviderName, until_ms: int) -> None:
        """`ProviderLimitedError` if the turn is over; nothing may be sent then."""
        if self._now_ms() > until_ms:
            raise ProviderLimitedError(provider, "its turn came and went", after_s=0.1, status=None)


def stretched(rate: str) -> str:
    """The same number, in a period that is a little longer. `SettingError` for what is no rate."""
    match = _RATE.fullmatch(rate)
    if match is None:
        raise SettingError(f'environment: `GENERATION_PROVIDER_RATE` is `{rate}`: give a rate, as in "10/m"')
    period_s = int(match[2] or 1) * _UNITS_S[match[3]]
    return f"{match[1]}/{period_s + MARGIN_S}s"
