"""From an output to FFmpeg's arguments. Every value in them is ours: numbers that we have read, names that we made."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .child import Limits, run_child
from .errors import MediaError
from .ffmpeg import Tools, ffmpeg_options, input_options
from .progress import Progress, ProgressReader
from .words import THUMBNAILS, Aspect, Clip, Format, Media, Output, Quality, Wish

OnProgress = Callable[[Progress], None]

SHEET_COLUMNS: Final = 4
SHEET_ROWS: Final = 3
TILE_WIDTH: Final = 320
GIF_FPS: Final = 10
PIXELS_AT_ONCE: Final = 1_920 * 1_088
SHORT_SIDE: Final = {Quality.LOW: 480, Quality.MEDIUM: 720, Quality.HIGH: 1_080}
GIF_SIDE: Final = {Quality.LOW: 180, Quality.MEDIUM: 270, Quality.HIGH: 360}
X264_CRF: Final = {Quality.LOW: "28", Quality.MEDIUM: "23", Quality.HIGH: "19"}
VP9_CRF: Final = {Quality.LOW: "40", Quality.MEDIUM: "34", Quality.HIGH: "28"}
SOUND: Final = {Quality.LOW: "96k", Quality.MEDIUM: "160k", Quality.HIGH: "256k"}
JPEG_Q: Final = {Quality.LOW: "6", Quality.MEDIUM: "4", Quality.HIGH: "2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where one output is made, of what, and within which limits."""

    tools: Tools
    source: Path
    folder: Path
    media: Media
    wish: Wish
    limits: Limits

    def clip_of(self, output: Output) -> Clip:
        """The part of the source that an output shows."""
        return self.wish.clips[output.clip]


async def make_output(bench: Bench, output: Output, on_progress: OnProgress) -> Path:
    """The file, whole. `MediaError`, `ToolError`."""
    target = bench.folder / output.name
    if output.format is Format.THUMBNAILS:
        clip = bench.clip_of(output)
        moment = clip.start + clip.duration_s * (output.part + 0.5) / THUMBNAILS
        await take_picture(bench, moment, target, side=SHORT_SIDE[bench.wish.quality])
        on_progress(Progress(1.0, None))
    elif output.format is Format.CONTACT_SHEET:
        await _make_sheet(bench, output, target, on_progress)
    else:
        clip = bench.clip_of(output)
        reader = ProgressReader(clip.duration_s)

        def hear(line: str) -> None:
            reader.feed(line)
            on_progress(reader.latest)

        await run_child(_clip_argv(bench, output, target), limits=bench.limits, folder=bench.folder, on_line=hear)
        if reader.reached_s < clip.duration_s * 0.9 - 0.5:
            raise MediaError(f"The file is damaged: of this clip, only {reader.reached_s:.1f} s could be read.")
    return target


def _clip_argv(bench: Bench, output: Output, target: Path) -> list[str]:
    clip, quality, media = bench.clip_of(output), bench.wish.quality, bench.media
    picture = ["-map", f"0:{media.video}"]
    sound = ["-map", f"0:{media.audio}"] if media.audio is not None else []
    shape = _shape(bench.wish.aspect, SHORT_SIDE[quality])
    x264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", X264_CRF[quality], "-threads:v", "2"]
    vp9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1", "-crf", VP9_CRF[quality]]
    gif = _shape(bench.wish.aspect, GIF_SIDE[quality]) + (
        f",fps={GIF_FPS},split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"
    )
    options = {
        Format.MP4: [
            *picture, *sound, "-vf", f"{shape},format=yuv420p", *x264, "-c:a", "aac", "-b:a", SOUND[quality],
            "-movflags", "+faststart", "-f", "mp4",
        ],
        Format.WEBM: [
            *picture, *sound, "-vf", f"{shape},format=yuv420p", *vp9, "-b:v", "0", "-threads:v", "2",
            "-c:a", "libopus", "-b:a", SOUND[quality], "-f", "webm",
        ],
        Format.GIF: ["-filter_complex", f"[0:{media.video}]{gif}", "-an", "-f", "gif"],
        Format.MP3: [*sound, "-vn", "-c:a", "libmp3lame", "-b:a", SOUND[quality], "-f", "mp3"],
    }[output.format]  # fmt: skip
    # The clip is cut before it is decoded for good: FFmpeg decodes from the key frame and drops what is too early.
    return [
        bench.tools.ffmpeg, *ffmpeg_options(), "-ss", f"{clip.start:.6f}", "-t", f"{clip.duration_s:.6f}",
        *input_options(bench.source), "-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn", *options,
        f"file:{target}",
    ]  # fmt: skip


async def take_picture(bench: Bench, moment_s: float, target: Path, *, side: int) -> None:
    """One picture of the source as a JPEG; near the very end, where there may be none, one a little before."""
    last = max(0.0, bench.media.duration_s - 1.0 / (bench.media.fps or 25.0) * 1.5)
    for moment in (min(moment_s, last), max(0.0, min(moment_s, last) - 1.0), 0.0):
        await _shoot(bench, [(moment, target)], side)
        if _is_there(target):
            return
    raise MediaError("The file is damaged: no picture could be read there.")


async def take_pictures(bench: Bench, wanted: Sequence[tuple[float, Path]], *, side: int) -> None:
    """Several at once, of moments in seconds: FFmpeg starts once, unless the pictures are large."""
    if bench.media.width * bench.media.height <= PIXELS_AT_ONCE:
        with contextlib.suppress(MediaError):  # of those that are missing, each is tried by itself
            await _shoot(bench, wanted, side)
    for moment, target in wanted:
        if not _is_there(target):
            await take_picture(bench, moment, target, side=side)


async def _shoot(bench: Bench, wanted: Sequence[tuple[float, Path]], side: int) -> None:
    argv = [bench.tools.ffmpeg, *ffmpeg_options()]
    for moment, _ in wanted:
        argv += ["-threads", "1", "-ss", f"{moment:.6f}", *input_options(bench.source)]
    for number, (_, target) in enumerate(wanted):
        argv += [
            "-map", f"{number}:{bench.media.video}", "-map_metadata", "-1", "-frames:v", "1",
            "-vf", f"{_shape(bench.wish.aspect, side)},format=yuvj420p", *_jpeg(bench), f"file:{target}",
        ]  # fmt: skip
    await run_child(argv, limits=bench.limits, folder=bench.folder)


def _jpeg(bench: Bench) -> list[str]:
    quality = JPEG_Q[bench.wish.quality]
    return ["-strict", "unofficial", "-c:v", "mjpeg", "-q:v", quality, "-f", "image2", "-update", "1"]


def _is_there(target: Path) -> bool:
    return target.exists() and target.stat().st_size > 0


async def _make_sheet(bench: Bench, output: Output, target: Path, on_progress: OnProgress) -> None:
    clip, count = bench.clip_of(output), SHEET_COLUMNS * SHEET_ROWS
    moments = [clip.start + clip.duration_s * (number + 0.5) / count for number in range(count)]
    shots = [bench.folder / f"tile-{number:02d}.jpg" for number in range(count)]
    for row in range(0, count, SHEET_COLUMNS):
        some = slice(row, row + SHEET_COLUMNS)
        await take_pictures(bench, list(zip(moments[some], shots[some], strict=True)), side=TILE_WIDTH // 2)
        on_progress(Progress((row + SHEET_COLUMNS) / (count + 1), None))
    tiles = f"scale={TILE_WIDTH}:-2,tile={SHEET_COLUMNS}x{SHEET_ROWS}:padding=4:margin=4,format=yuvj420p"
    argv = [
        bench.tools.ffmpeg, *ffmpeg_options(), "-f", "image2",
        *input_options(bench.folder / "tile-%02d.jpg", demuxers=("image2",)),
        "-frames:v", "1", "-vf", tiles, *_jpeg(bench), f"file:{target}",
    ]  # fmt: skip
    await run_child(argv, limits=bench.limits, folder=bench.folder)
    on_progress(Progress(1.0, None))
    for shot in shots:
        shot.unlink()


def _shape(aspect: Aspect, side: int) -> str:
    """The filters that make square pixels, crop to an aspect, and scale down to a short side; sizes stay even."""
    filters = ["scale=w='max(2,trunc(iw*sar/2)*2)':h='max(2,trunc(ih/2)*2)'", "setsar=1"]
    if aspect is not Aspect.SOURCE:
        wide, _, high = aspect.value.partition(":")
        filters.append(
            f"crop=w='max(2,trunc(min(iw,ih*{wide}/{high})/2)*2)':h='max(2,trunc(min(ih,iw*{high}/{wide})/2)*2)'"
        )
    filters.append(
        f"scale=w='if(gte(iw,ih),-2,trunc(min(iw,{side})/2)*2)':h='if(gte(iw,ih),trunc(min(ih,{side})/2)*2,-2)'"
    )
    return ",".join(filters)
