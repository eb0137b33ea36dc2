"""What a demo is told, and the faults it orders from the sandbox."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SEED: Final = 7
MOVIES_MIN: Final = 5
MOVIES_MAX: Final = 300
PROCESSES_MAX: Final = 8


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


class DemoUsageError(DemoError):
    """The demo was asked for something it cannot do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """The flags of `conveyor demo`."""

    keep: bool = False
    movies: int = 50
    processes: int = 2
    data: Path | None = None

    def check(self) -> None:
        """`DemoUsageError` on the first flag out of bounds."""
        if not MOVIES_MIN <= self.movies <= MOVIES_MAX:
            raise DemoUsageError(f"--movies is {self.movies}: give {MOVIES_MIN} to {MOVIES_MAX}")
        if not 1 <= self.processes <= PROCESSES_MAX:
            raise DemoUsageError(f"--processes is {self.processes}: give 1 to {PROCESSES_MAX}")
        if self.data is not None and self.data.exists() and (not self.data.is_dir() or any(self.data.iterdir())):
            raise DemoUsageError(f"--data {self.data} is not an empty folder: give a new one")

    @property
    def run_s_max(self) -> float:
        """Longer than any run should take; past it the demo has failed."""
        return 45.0 + self.movies


def orders(gone_movie_id: int) -> Mapping[str, Mapping[str, object]]:
    """The faults by provider: a little latency, some 429s and 5xx, and one movie that TMDB lists but no longer has."""
    return {
        "tmdb": {"latency_ms": 80, "gone_movie_ids": [gone_movie_id], "error_every": 29, "error_status": 503},
        "brave": {"latency_ms": 80, "latency_jitter_ms": 40, "rate_limit_every": 21, "retry_after_s": 1},
        "anthropic": {"latency_ms": 100, "latency_jitter_ms": 80, "error_every": 17, "error_status": 529},
    }
