"""Reads what FFmpeg writes with `-progress pipe:1`, and never lets it go backwards."""

from dataclasses import dataclass
from typing import Final

# `out_time_ms` is microseconds too, whatever its name says; older builds write only that.
_TIMES: Final = ("out_time_us", "out_time_ms")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one run of FFmpeg is."""

    fraction: float
    """0 to 1, never less than before."""
    speed: float | None
    """Seconds of video for a second of time."""


class ProgressReader:
    """Takes one line after another."""

    def __init__(self, duration_s: float) -> None:
        self._duration_us = max(1.0, duration_s * 1_000_000)
        self._values: dict[str, str] = {}
        self.latest = Progress(0.0, None)
        self.reached_s = 0.0
        """How much has been written."""

    def feed(self, line: str) -> None:
        """A block ends with `progress=`; only then `latest` changes."""
        name, _, value = line.partition("=")
        if name != "progress":
            self._values[name] = value.strip()
            return
        self.reached_s = max(self.reached_s, self._reached_us() / 1_000_000)
        fraction = 1.0 if value == "end" else min(1.0, self.reached_s * 1_000_000 / self._duration_us)
        self.latest = Progress(max(self.latest.fraction, fraction), self._speed() or self.latest.speed)
        self._values.clear()

    def _reached_us(self) -> float:
        for name in _TIMES:
            time = self._values.get(name, "")
            if time.isdigit():
                return float(time)
        return 0.0  # `N/A`: nothing is out yet; or before the start

    def _speed(self) -> float | None:
        try:
            speed = float(self._values.get("speed", "").rstrip("x"))
        except ValueError:
            return None
        return speed if 0 < speed < 1e6 else None
