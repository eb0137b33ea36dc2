"""Veo on Google's Agent Platform as it speaks: operations fetched by a POST; videos in the answer, or in a bucket, from
which they are read here too."""

import base64
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .google import failure, read_wish, refusal
from .making import SAFETY_REASON, Ending, Making, MakingRoom
from .provider import Ask, Endpoint, Problem, Reply, Trouble, bearer_key, json_refusal, json_reply, read_body, refuse
from .settings import ProviderName

MODEL: Final = "/v1beta1/projects/{project}/locations/{location}/publishers/google/models/{model}"
TYPE: Final = "type.googleapis.com/cloud.ai.large_models.vision.GenerateVideoResponse"
UNAUTHENTICATED: Final = {
    "error": {
        "code": 401,
        "message": "Request had invalid authentication credentials. Expected OAuth 2 access token.",
        "status": "UNAUTHENTICATED",
    }
}


class AgentPlatform:
    """The Agent Platform, once Vertex AI."""

    name = ProviderName.AGENT_PLATFORM

    def __init__(self, room: MakingRoom) -> None:
        self._room = room

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the OAuth token."""
        return bearer_key(headers)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses."""
        poll, stored = f"{MODEL}:fetchPredictOperation", "/storage/v1/b/{bucket}/o/{object:path}"
        return (
            Endpoint(name="submit", method="POST", path=f"{MODEL}:predictLongRunning", answer=self._submit),
            Endpoint(name="poll", method="POST", path=poll, answer=self._poll, is_slow=True),
            Endpoint(name="download", method="GET", path=stored, answer=self._download, is_slow=True),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no as Google does."""
        if problem.trouble in (Trouble.MISSING_KEY, Trouble.WRONG_KEY):
            return json_refusal(UNAUTHENTICATED, status=401)
        return refusal(problem)

    def _submit(self, ask: Ask) -> Reply:
        wish = read_wish(ask)
        if wish.delivery and not wish.delivery.startswith("gs://"):
            refuse(Trouble.INVALID, "storageUri must begin with gs://")
        return json_reply({"name": _name(ask, self._room.submit(ask, wish))})

    def _poll(self, ask: Ask) -> Reply:
        name = read_body(ask.body, dict[str, str]).get("operationName", "")
        making = self._room.find(name.rpartition("/")[2])
        if name != _name(ask, making):
            refuse(Trouble.NOT_FOUND, "The operation is of another model.")
        if not self._room.is_done(making):
            return json_reply({"name": name})
        return json_reply({"name": name, "done": True, **self._ended(making)})

    def _ended(self, making: Making) -> Mapping[str, object]:
        if making.ending is Ending.FAILED:
            return {"error": failure(making.fail_code)}
        if making.ending is Ending.FILTERED:
            return {"response": {"@type": TYPE, "raiMediaFilteredCount": 1, "raiMediaFilteredReasons": [SAFETY_REASON]}}
        where: Mapping[str, str] = {"gcsUri": f"{making.wish.delivery}/{making.id}/sample_0.mp4"}
        if not making.wish.delivery:
            where = {"bytesBase64Encoded": base64.b64encode(self._room.render(making)).decode()}
        return {"response": {"@type": TYPE, "raiMediaFilteredCount": 0, "videos": [{**where, "mimeType": "video/mp4"}]}}

    def _download(self, ask: Ask) -> Reply:
        *_, id, _file = ["", *ask.path["object"].split("/")]
        making = self._room.find(id)
        if f"gs://{ask.path['bucket']}/{ask.path['object']}" != f"{making.wish.delivery}/{making.id}/sample_0.mp4":
            refuse(Trouble.NOT_FOUND, "No such object.")
        return Reply(content=self._room.render(making), media_type="video/mp4")


def _name(ask: Ask, making: Making) -> str:
    path = MODEL.removeprefix("/v1beta1/").format_map(ask.path)
    return f"{path}/operations/{making.id}"
