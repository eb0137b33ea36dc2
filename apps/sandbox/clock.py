"""The sandbox's own time: it stands still until the admin moves it, so that the same calls give the same answers.

Only what is signed for others bears the world's time, since they hold it against theirs.
"""

import time as real
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

DAY_S: Final = 86_400


def wall_s() -> int:
    """Tell the world's time, for signatures."""
    return int(real.time())


class SandboxClock:
    """One truth for the time of day and for the day number: `day` is how many midnights have passed."""

    def __init__(self, *, first_day: date, day: int) -> None:
        self._start = datetime.combine(first_day, time.min, tzinfo=UTC)
        self._elapsed_s = float(day * DAY_S)

    def now(self) -> datetime:
        """Tell the sandbox's time."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def today(self) -> date:
        """Tell the sandbox's date."""
        return self.now().date()

    def unix_s(self) -> int:
        """Tell the time as the `created` fields spell it."""
        return int(self.now().timestamp())

    @property
    def day(self) -> int:
        """The day number, 0 at the start."""
        return int(self._elapsed_s // DAY_S)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._elapsed_s += seconds

    def start_day(self, day: int) -> None:
        """Go to the first second of a day, forward or back."""
        self._elapsed_s = float(day * DAY_S)
