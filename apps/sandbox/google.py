"""How Google's services say no, and what an order's parameters are called on the wire of Veo."""

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response

from .making import Wish
from .provider import Ask, Problem, Trouble, json_refusal, read_body, refuse

RPC: Final = "type.googleapis.com/google.rpc"
REFUSALS: Final = {
    Trouble.MISSING_KEY: (403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers."),
    Trouble.WRONG_KEY: (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    Trouble.INVALID: (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    Trouble.TOO_LARGE: (400, "INVALID_ARGUMENT", "Request payload size exceeds the limit."),
    Trouble.NOT_FOUND: (404, "NOT_FOUND", "Requested entity was not found."),
    Trouble.RATE_LIMITED: (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    Trouble.QUOTA_LIMITED: (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan."),
}
STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
CODES: Final = {
    3: "Request contains an invalid argument.",
    13: "Internal error encountered.",
    14: "The service is currently unavailable.",
}
"""What an operation that failed says, by gRPC's code."""


class Parameters(msgspec.Struct, frozen=True, rename="camel"):
    """The part of Veo's parameters that changes the answer."""

    sample_count: int = 1
    duration_seconds: int = 8
    aspect_ratio: str = "16:9"
    resolution: str = "720p"
    storage_uri: str = ""


class Instance(msgspec.Struct, frozen=True):
    """One prompt."""

    prompt: str = ""


class PredictRequest(msgspec.Struct, frozen=True):
    """A `predictLongRunning` request."""

    instances: list[Instance]
    parameters: Parameters = Parameters()
    labels: dict[str, str] = {}


def read_wish(ask: Ask, *, client_id: str = "") -> Wish:
    """Read an order on Veo's wire."""
    request = read_body(ask.body, PredictRequest)
    model = ask.path["model"]
    if not model.startswith("veo-"):
        refuse(Trouble.NOT_FOUND, f"models/{model} is not found for API version v1beta.")
    if len(request.instances) != 1 or request.parameters.sample_count != 1:
        refuse(Trouble.INVALID, "the sandbox makes one video of one prompt at a time")
    wanted = request.parameters
    return Wish(
        prompt=request.instances[0].prompt,
        model=model,
        seconds=wanted.duration_seconds,
        aspect_ratio=wanted.aspect_ratio,
        resolution=wanted.resolution,
        client_id=client_id or next(iter(request.labels.values()), ""),
        delivery=wanted.storage_uri,
    )


def refusal(problem: Problem) -> Response:
    """Say no in Google's envelope."""
    if problem.trouble is Trouble.FAILED:
        status, name, text = problem.status, STATUSES.get(problem.status, "UNKNOWN"), "Internal error encountered."
    else:
        status, name, text = REFUSALS[problem.trouble]
    return json_refusal(
        {
            "error": {
                "code": status,
                "message": problem.message or text,
                "status": name,
                "details": _details(problem, status),
            }
        },
        status=status,
    )


def failure(code: int) -> Mapping[str, object]:
    """The error of an operation."""
    return {"code": code, "message": CODES.get(code, "The operation failed.")}


def _details(problem: Problem, status: int) -> list[Mapping[str, object]]:
    if status == 429:
        return [{"@type": f"{RPC}.RetryInfo", "retryDelay": f"{problem.retry_after_s}s"}]
    if problem.trouble is Trouble.WRONG_KEY:
        return [{"@type": f"{RPC}.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
    return []
