"""Gemini Omni as it speaks: interactions in the background, their video by address or within the answer."""

import base64
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .gemini import file_uri, redirect_to_file
from .google import failure, refusal
from .making import SAFETY_REASON, Ending, Making, MakingRoom, Wish
from .provider import Ask, Endpoint, Problem, Reply, Trouble, json_reply, read_body, refuse
from .settings import ProviderName

MODEL_PREFIX: Final = "gemini-omni-"
DELIVERIES: Final = ("inline", "uri")


class VideoFormat(msgspec.Struct, frozen=True):
    """The part of a response format that changes the answer."""

    type: str
    aspect_ratio: str = "16:9"
    resolution: str = "720p"
    delivery: str = "inline"
    duration: str = "8s"


class InteractionRequest(msgspec.Struct, frozen=True):
    """A request for an interaction; `input` is text, or contents of which the texts count."""

    model: str
    input: str | list[dict[str, object]]
    response_format: VideoFormat
    background: bool = False
    labels: dict[str, str] = {}


class Omni:
    """The Interactions API."""

    name = ProviderName.OMNI

    def __init__(self, room: MakingRoom) -> None:
        self._room = room

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the key from its header or the address."""
        return headers.get("x-goog-api-key") or query.get("key")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses; the docs and the SDK name different versions."""
        own = [
            endpoint
            for version in ("v1beta", "v1")
            for endpoint in (
                Endpoint(name="submit", method="POST", path=f"/{version}/interactions", answer=self._submit),
                Endpoint(
                    name="poll", method="GET", path=f"/{version}/interactions/{{id}}", answer=self._poll, is_slow=True
                ),
            )
        ]
        return (
            *own,
            Endpoint(name="file", method="GET", path="/{version}/files/{id}:download", answer=redirect_to_file),
            Endpoint(name="download", method="GET", path="/download/{id}.mp4", answer=self._download, is_slow=True),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no as Google does."""
        return refusal(problem)

    def _submit(self, ask: Ask) -> Reply:
        request = read_body(ask.body, InteractionRequest)
        wanted = request.response_format
        if not request.model.startswith(MODEL_PREFIX):
            refuse(Trouble.NOT_FOUND, f"Model {request.model} was not found.")
        if wanted.type != "video" or not request.background or wanted.delivery not in DELIVERIES:
            refuse(Trouble.INVALID, "the sandbox makes videos, in the background, delivered inline or by uri")
        seconds = wanted.duration.removesuffix("s")
        wish = Wish(
            prompt=_text(request.input),
            model=request.model,
            seconds=int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 4 else 0,
            aspect_ratio=wanted.aspect_ratio,
            resolution=wanted.resolution,
            client_id=next(iter(request.labels.values()), ""),
            delivery=wanted.delivery,
        )
        return json_reply(_shown(self._room.submit(ask, wish), "in_progress"))

    def _poll(self, ask: Ask) -> Reply:
        making = self._room.find(ask.path["id"].removeprefix("v1_"))
        if not self._room.is_done(making):
            return json_reply(_shown(making, "in_progress"))
        if making.ending is Ending.MADE:
            output = {"type": "model_output", "content": [self._video(making)]}
            return json_reply({**_shown(making, "completed"), "steps": [output]})
        error: Mapping[str, object] = {"code": 3, "message": SAFETY_REASON, "status": "SAFETY"}
        if making.ending is Ending.FAILED:
            error = failure(making.fail_code)
        step: Mapping[str, object] = {"type": "model_output", "content": [], "error": error}
        return json_reply({**_shown(making, "failed"), "steps": [step]})

    def _video(self, making: Making) -> Mapping[str, str]:
        if making.wish.delivery == "uri":
            return {"type": "video", "mime_type": "video/mp4", "uri": file_uri(making)}
        data = base64.b64encode(self._room.render(making)).decode()
        return {"type": "video", "mime_type": "video/mp4", "data": data}

    def _download(self, ask: Ask) -> Reply:
        return Reply(content=self._room.render(self._room.find(ask.path["id"])), media_type="video/mp4")


def _text(said: str | list[dict[str, object]]) -> str:
    return said if isinstance(said, str) else " ".join(str(each.get("text", "")) for each in said)


def _shown(making: Making, status: str) -> dict[str, object]:
    return {"id": f"v1_{making.id}", "object": "interaction", "status": status, "model": making.wish.model}
