"""The records: a generation from its request to its video, as callers, the database and the job see it.

In JSON all names are the document's: `userId`, `createdAt`. Times are ISO 8601 in UTC, durations seconds unless a name
says otherwise.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

import msgspec

PROMPT_CHARS_MAX: Final = 4_000
PRIORITY_MAX: Final = 9
PRIORITY_VIP: Final = 5
"""From this priority on somebody is shown as VIP; any higher number goes before any lower one."""


IN_DOUBT: Final = "submission_in_doubt"
"""The code of a failure after which nobody knows whether a provider has an order."""


def video_key(id: str) -> str:
    """Of a generation's video in the bucket."""
    return f"videos/{id}.mp4"


class State(StrEnum):
    """How a generation stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    RETRYING = "retrying"
    """A try failed; another comes."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


class ProviderName(StrEnum):
    """Whose video model makes it, by which protocol."""

    GEMINI = "gemini"
    """Veo on the Gemini API, as the document has it."""
    AGENT_PLATFORM = "agent-platform"
    """Veo on Google's Agent Platform."""
    OMNI = "omni"
    """Gemini Omni's interactions."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What the video shall be like."""

    duration: int = 8
    """Seconds."""
    aspect_ratio: Literal["16:9", "9:16"] = "16:9"
    resolution: Literal["720p", "1080p"] = "720p"
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.duration <= 60:
            raise ValueError("`duration` is from 1 to 60 seconds")
        if len(self.negative_prompt) > PROMPT_CHARS_MAX:
            raise ValueError(f"`negativePrompt` has at most {PROMPT_CHARS_MAX} characters")


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What a caller asks for."""

    user_id: str
    prompt: str
    parameters: Parameters = Parameters()
    provider: ProviderName | None = None
    """None: the one that the settings name."""
    model: str = ""
    """Empty: the provider's usual one."""
    priority: int = 0
    """0 to 9; the highest goes first, so that a VIP waits behind VIPs only."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.user_id) <= 200 or not self.user_id.isprintable():
            raise ValueError("`userId` has 1 to 200 printable characters")
        if not self.prompt.strip() or len(self.prompt) > PROMPT_CHARS_MAX:
            raise ValueError(f"`prompt` has 1 to {PROMPT_CHARS_MAX} characters")
        if len(self.model) > 100 or not all(sign.isalnum() or sign in "-._" for sign in self.model):
            raise ValueError("`model` has at most 100 letters, digits, `-`, `.` and `_`")
        if not 0 <= self.priority <= PRIORITY_MAX:
            raise ValueError(f"`priority` is a whole number from 0 to {PRIORITY_MAX}")


class Failure(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Why a try, or the whole generation, came to nothing."""

    code: str
    """`safety`, `provider_unavailable`, `timeout`, …"""
    message: str
    """For people."""
    is_permanent: bool = False
    """Trying again is useless."""


class VideoResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What came of it."""

    video_url: str
    """Where browsers fetch it."""
    key: str
    """In the bucket."""
    size: int
    """Bytes."""
    content_type: str
    duration: int
    """Seconds, as they were asked for."""
    processing_time: int
    """Milliseconds from its start to its end."""


class Generation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A generation as it stands."""

    id: str
    user_id: str
    prompt: str
    parameters: Parameters
    provider: ProviderName
    model: str
    priority: int
    state: State
    progress: float
    """0 to 1."""
    note: str
    """What is being done, in words."""
    job_id: str
    """conveyor's; empty until it was sent."""
    attempt: int
    """The latest try; 0 before the first."""
    operation: str
    """The provider's name of it; empty before it was submitted."""
    result: VideoResult | None
    error: Failure | None
    seq: int
    """Grows with every change."""
    created_at: str
    started_at: str | None
    submitted_at: str | None
    """When the provider took it."""
    ended_at: str | None
    updated_at: str


class SubmissionState(StrEnum):
    """How one order at a provider stands."""

    BEGUN = "begun"
    """It was about to be sent. Where nobody is at it any more, nobody knows whether it was."""
    TAKEN = "taken"
    """The provider has told its operation's name."""
    REFUSED = "refused"
    """The provider did not take it."""
    FAILED = "failed"
    """It came to nothing, or was in doubt and was given up."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One order at a provider: at most one of a generation is begun or taken."""

    number: int
    """1 for the first."""
    state: SubmissionState | None = None
    """None: it has not begun."""
    operation: str = ""
    taken_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationJob:
    """The payload of the job: the record has the rest."""

    generation_id: str
    user_id: str
