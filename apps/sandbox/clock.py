"""The sandbox's own time: it stands still until the admin moves it, so that the same calls give the same answers; where
real programs wait for videos it may run.

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

    def __init__(self, *, first_day: date, day: int, is_running: bool = False) -> None:
        self._start = datetime.combine(first_day, time.min, tzinfo=UTC)
        self._moved_s = float(day * DAY_S)
        self._began_s = real.monotonic() if is_running else None

    @property
    def elapsed_s(self) -> float:
        """Tell how long this world has lived."""
        ran_s = 0.0 if self._began_s is None else real.monotonic() - self._began_s
        return self._moved_s + ran_s

    def now(self) -> datetime:
        """Tell the sandbox's time."""
        return self._start + timedelta(seconds=self.elapsed_s)

    def today(self) -> date:
        """Tell the sandbox's date."""
        return self.now().date()

    def unix_s(self) -> int:
        """Tell the time as the `created` fields spell it."""
        return int(self.now().timestamp())

    @property
    def day(self) -> int:
        """The day number, 0 at the start."""
        return int(self.elapsed_s // DAY_S)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._moved_s += seconds

    def start_day(self, day: int) -> None:
        """Go to the first second of a day, forward or back."""
        self._moved_s += day * DAY_S - self.elapsed_s
