"""Veo on the Gemini API as it spoke: long-running operations, and files that redirect to where they lie."""

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .google import failure, read_wish, refusal
from .making import SAFETY_REASON, Ending, Making, MakingRoom
from .provider import Ask, Endpoint, Problem, Reply, json_reply
from .settings import ProviderName

OFFICIAL: Final = "https://generativelanguage.googleapis.com"
CLIENT_ID: Final = "x-client-request-id"
TYPE: Final = "type.googleapis.com/google.ai.generativelanguage.v1beta.PredictLongRunningResponse"


class Gemini:
    """The Gemini API."""

    name = ProviderName.GEMINI

    def __init__(self, room: MakingRoom) -> None:
        self._room = room

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the key from its header or the address."""
        return headers.get("x-goog-api-key") or query.get("key")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses."""
        models = "/v1beta/models/{model}"
        return (
            Endpoint(name="submit", method="POST", path=f"{models}:predictLongRunning", answer=self._submit),
            Endpoint(name="poll", method="GET", path=f"{models}/operations/{{id}}", answer=self._poll),
            Endpoint(name="file", method="GET", path="/{version}/files/{id}:download", answer=redirect_to_file),
            Endpoint(name="download", method="GET", path="/download/{id}.mp4", answer=self._download, is_slow=True),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no as Google does."""
        return refusal(problem)

    def _submit(self, ask: Ask) -> Reply:
        making = self._room.submit(ask, read_wish(ask, client_id=ask.headers.get(CLIENT_ID, "")))
        return json_reply({"name": _name(making)})

    def _poll(self, ask: Ask) -> Reply:
        making = self._room.find(ask.path["id"])
        if not self._room.is_done(making):
            return json_reply({"name": _name(making)})
        return json_reply({"name": _name(making), "done": True, **_ended(making)})

    def _download(self, ask: Ask) -> Reply:
        return Reply(content=self._room.render(self._room.find(ask.path["id"])), media_type="video/mp4")


def redirect_to_file(ask: Ask) -> Reply:
    """A file lies elsewhere; one path segment further up from here."""
    return Reply(content=b"", status=302, headers={"location": f"../../download/{ask.path['id']}.mp4"})


def file_uri(making: Making) -> str:
    """The address that Google would name."""
    return f"{OFFICIAL}/v1beta/files/{making.id}:download?alt=media"


def _name(making: Making) -> str:
    return f"models/{making.wish.model}/operations/{making.id}"


def _ended(making: Making) -> Mapping[str, object]:
    if making.ending is Ending.FAILED:
        return {"error": failure(making.fail_code)}
    made: Mapping[str, object] = {"generatedSamples": [{"video": {"uri": file_uri(making)}}]}
    if making.ending is Ending.FILTERED:
        made = {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": [SAFETY_REASON]}
    return {"response": {"@type": TYPE, "generateVideoResponse": made}}
