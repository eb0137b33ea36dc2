"""The words of an order: what was uploaded, what is wished for, and which outputs that makes."""

from enum import StrEnum
from typing import Final

import msgspec

from .errors import RefusedError

CLIPS_MAX: Final = 20
CLIP_S_MIN: Final = 0.1
GIF_S_MAX: Final = 60.0
THUMBNAILS: Final = 4
"""For each clip."""


class Format(StrEnum):
    """What a clip may become."""

    MP4 = "mp4"
    WEBM = "webm"
    GIF = "gif"
    MP3 = "mp3"
    THUMBNAILS = "thumbnails"
    CONTACT_SHEET = "contact_sheet"


class Aspect(StrEnum):
    """The shape of the picture; what does not fit is cropped."""

    SOURCE = "source"
    WIDE = "16:9"
    TALL = "9:16"
    SQUARE = "1:1"
    PORTRAIT = "4:5"


class Quality(StrEnum):
    """How large and how fine."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


CONTENT_TYPES: Final = {
    Format.MP4: "video/mp4",
    Format.WEBM: "video/webm",
    Format.GIF: "image/gif",
    Format.MP3: "audio/mpeg",
    Format.THUMBNAILS: "image/jpeg",
    Format.CONTACT_SHEET: "image/jpeg",
}


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds, as its content says."""

    container: str
    duration_s: float
    video: int | None = None
    """The number of the stream that is shown; None: there is no picture."""
    audio: int | None = None
    width: int = 0
    height: int = 0
    fps: float = 0.0


class Clip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the source, in seconds."""

    start: float
    end: float

    @property
    def duration_s(self) -> float:
        """How long it is."""
        return self.end - self.start


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants of an upload."""

    clips: list[Clip]
    formats: list[Format]
    aspect: Aspect = Aspect.SOURCE
    quality: Quality = Quality.MEDIUM

    def check(self, media: Media) -> None:
        """`RefusedError` in plain words for what cannot be made of this file."""
        if not 1 <= len(self.clips) <= CLIPS_MAX:
            raise RefusedError(f"Choose 1 to {CLIPS_MAX} clips.")
        if not self.formats or len(set(self.formats)) != len(self.formats):
            raise RefusedError("Choose at least one format, and each only once.")
        if media.audio is None and Format.MP3 in self.formats:
            raise RefusedError("This file has no sound, so there can be no MP3.")
        if media.video is None and set(self.formats) != {Format.MP3}:
            raise RefusedError("This file has no picture: only MP3 can be made of it.")
        for number, clip in enumerate(self.clips, 1):
            if not 0 <= clip.start < clip.end <= media.duration_s + 0.05:
                raise RefusedError(f"Clip {number} must lie within the video, and end after it starts.")
            if clip.duration_s < CLIP_S_MIN:
                raise RefusedError(f"Clip {number} is shorter than {CLIP_S_MIN:g} s.")
            if Format.GIF in self.formats and clip.duration_s > GIF_S_MAX:
                raise RefusedError(f"Clip {number} is too long for a GIF: {GIF_S_MAX:g} s at most.")


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One file that an order makes. Its name is ours alone, and the same in every attempt."""

    name: str
    format: Format
    clip: int
    """Which of the order's clips, from 0."""
    part: int = 0
    """Which of its thumbnails, from 0."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The message: all that a worker has to know."""

    id: str
    upload: str
    size: int
    """Bytes of the upload."""
    media: Media
    wish: Wish
    generation: int = 1
    """One more with each time that somebody asked to try again: older messages of the order are left alone."""

    def outputs(self) -> list[Output]:
        """In the order in which they are made."""
        return plan_outputs(self.wish)


def plan_outputs(wish: Wish) -> list[Output]:
    """The files that a wish makes."""
    made: list[Output] = []
    for number in range(len(wish.clips)):
        stem = f"clip-{number + 1:02d}"
        for each in wish.formats:
            if each is Format.THUMBNAILS:
                made += [
                    Output(name=f"{stem}-thumbnail-{part + 1}.jpg", format=each, clip=number, part=part)
                    for part in range(THUMBNAILS)
                ]
            elif each is Format.CONTACT_SHEET:
                made.append(Output(name=f"{stem}-contact-sheet.jpg", format=each, clip=number))
            else:
                made.append(Output(name=f"{stem}.{each.value}", format=each, clip=number))
    return made


def output_key(order: str, name: str) -> str:
    """Where an output lies in the bucket."""
    return f"orders/{order}/{name}"


def upload_prefix(upload: str) -> str:
    """What the keys of an upload's parts begin with; the rest is each part's offset, so that they list in order."""
    return f"uploads/{upload}/source/"


def part_key(upload: str, offset: int) -> str:
    """Where the part that begins at this byte lies."""
    return f"{upload_prefix(upload)}{offset:015d}"


def preview_key(upload: str, number: int) -> str:
    """Where one picture of an upload's timeline lies."""
    return f"uploads/{upload}/preview-{number:02d}.jpg"
