"""What the three protocols of Google's video models have in common: orders, how long they take, and how they end.

A word in the prompt decides an ending: `#refused` the order is not taken, `#unsafe` its video is filtered, `#fails` the
operation ends in an error, `#stalls` it never ends.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .clock import SandboxClock
from .faults import falls_on
from .prose import digest
from .provider import Ask, Trouble, refuse
from .settings import ProviderName
from .studio import Studio
from .submissions import Submissions

KEPT_MAX: Final = 10_000
SECONDS_MAX: Final = 60
SIDES: Final = {"360p": (160, 90), "720p": (320, 180), "1080p": (480, 270), "4k": (960, 540)}
"""A quarter of what is asked for, so that the sandbox is fast."""
SAFETY_REASON: Final = (
    "The prompt could not be submitted or the video was filtered: it may violate Google's usage guidelines. "
    "Support codes: 58061214"
)


class Ending(StrEnum):
    """How a video comes out."""

    MADE = "made"
    FILTERED = "filtered"
    FAILED = "failed"
    NEVER = "never"


WORDS: Final = {"#unsafe": Ending.FILTERED, "#fails": Ending.FAILED, "#stalls": Ending.NEVER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an order asks for."""

    prompt: str
    model: str
    seconds: int
    aspect_ratio: str = "16:9"
    resolution: str = "720p"
    client_id: str = ""
    delivery: str = ""
    """Where the video goes: what the protocol makes of it."""

    def check(self) -> None:
        """Refuse what no model makes."""
        if not self.prompt.strip():
            refuse(Trouble.INVALID, "The prompt must not be empty.")
        if "#refused" in self.prompt:
            refuse(Trouble.INVALID, SAFETY_REASON)
        if not 1 <= self.seconds <= SECONDS_MAX:
            refuse(Trouble.INVALID, f"durationSeconds must be from 1 to {SECONDS_MAX}.")
        if self.resolution not in SIDES or self.aspect_ratio not in ("16:9", "9:16"):
            refuse(Trouble.INVALID, "The aspect ratio or resolution is not supported.")

    @property
    def size(self) -> str:
        """In FFmpeg's words."""
        wide, high = SIDES[self.resolution]
        return f"{high}x{wide}" if self.aspect_ratio == "9:16" else f"{wide}x{high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """An order that was taken."""

    id: str
    wish: Wish
    ending: Ending
    fail_code: int
    ready_at_s: float


class MakingRoom:
    """One provider's orders."""

    def __init__(
        self, name: ProviderName, clock: SandboxClock, submissions: Submissions, studio: Studio, *, generation_s: int
    ) -> None:
        self.name = name
        self._clock = clock
        self._submissions = submissions
        self._studio = studio
        self._generation_s = generation_s
        self._kept: OrderedDict[str, Making] = OrderedDict()
        self._number = 0

    def submit(self, ask: Ask, wish: Wish) -> Making:
        """Take an order, unless it or the limit is against that."""
        faults = ask.faults
        id = digest(self.name, self._number + 1, wish.prompt)[:16]
        try:
            wish.check()
        except Exception:
            self._submissions.refuse(self.name, wish.client_id)
            raise
        self._submissions.enter(self.name, wish.client_id, id, per_minute=faults.submissions_per_minute)
        self._number += 1
        ending = next((ending for word, ending in WORDS.items() if word in wish.prompt), Ending.MADE)
        if falls_on(self._number, faults.filter_every):
            ending = Ending.FILTERED
        if falls_on(self._number, faults.fail_every):
            ending = Ending.FAILED
        takes_s = self._generation_s if faults.generation_s is None else faults.generation_s
        making = Making(
            id=id, wish=wish, ending=ending, fail_code=faults.fail_code, ready_at_s=self._clock.elapsed_s + takes_s
        )
        self._kept[id] = making
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return making

    def find(self, id: str) -> Making:
        """Look an order up, or refuse."""
        making = self._kept.get(id)
        if making is None:
            refuse(Trouble.NOT_FOUND, f"Operation {id} was not found.")
        return making

    def is_done(self, making: Making) -> bool:
        """Say whether its time has come."""
        return making.ending is not Ending.NEVER and self._clock.elapsed_s >= making.ready_at_s

    def render(self, making: Making) -> bytes:
        """The video; refused as long as there is none."""
        if making.ending is not Ending.MADE or not self.is_done(making):
            refuse(Trouble.NOT_FOUND, "The file does not exist.")
        wish = making.wish
        return self._studio.render(wish.prompt, size=wish.size, seconds=wish.seconds)
