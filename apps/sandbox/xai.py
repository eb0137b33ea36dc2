"""xAI as it speaks: responses, the older chat completions, and flat errors in which a wrong key is a 400."""

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .prose import Text, cut, digest, tokens_in
from .provider import (
    Ask,
    Endpoint,
    Problem,
    Reply,
    Trouble,
    World,
    bearer_key,
    json_refusal,
    json_reply,
    read_body,
    refuse,
)
from .settings import ProviderName
from .transcript import SaidTurn, text_by_user, text_in_all

MODEL_PREFIX: Final = "grok-"

BAD_ARGUMENT: Final = "Client specified an invalid argument"
EXHAUSTED: Final = "Some resource has been exhausted"
WRONG_KEY_TEXT: Final = "Incorrect API key provided: wr***ey. You can obtain an API key from https://console.x.ai."
REFUSALS: Final = {
    Trouble.MISSING_KEY: (
        401,
        "Unauthenticated: No credentials provided",
        "No API key provided. Send it as Authorization: Bearer.",
    ),
    Trouble.WRONG_KEY: (400, BAD_ARGUMENT, WRONG_KEY_TEXT),
    Trouble.INVALID: (400, BAD_ARGUMENT, "Invalid request."),
    Trouble.TOO_LARGE: (413, BAD_ARGUMENT, "Request body is too large."),
    Trouble.NOT_FOUND: (404, "Some requested entity was not found", "Not found."),
    Trouble.RATE_LIMITED: (429, EXHAUSTED, "Too many requests. Please slow down."),
    Trouble.QUOTA_LIMITED: (
        429,
        EXHAUSTED,
        "Your team has used all available credits or reached its monthly spending limit.",
    ),
}
FAILURES: Final = {
    403: ("The caller does not have permission to execute the specified operation", "Your team is blocked."),
    503: ("The service is currently unavailable", "Service temporarily unavailable. Please retry."),
    504: ("The operation timed out", "The model did not answer in time."),
}


class ResponsesRequest(msgspec.Struct, frozen=True):
    """The part of a responses request that changes the answer."""

    model: str
    input: str | list[SaidTurn]
    instructions: str | None = None
    max_output_tokens: int | None = None
    store: bool = True
    stream: bool = False


class ChatRequest(msgspec.Struct, frozen=True):
    """The part of a chat request that changes the answer."""

    model: str
    messages: list[SaidTurn]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool = False


class Xai:
    """The maker of Grok."""

    name = ProviderName.XAI

    def __init__(self, world: World) -> None:
        self._world = world

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the bearer key."""
        return bearer_key(headers)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses."""
        return (
            Endpoint(name="responses", method="POST", path="/v1/responses", answer=self._respond),
            Endpoint(name="chat_completions", method="POST", path="/v1/chat/completions", answer=self._chat),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no in two flat strings."""
        if problem.trouble is Trouble.FAILED:
            default = ("The service encountered an internal error", "Internal server error.")
            status, (code, text) = problem.status, FAILURES.get(problem.status, default)
        else:
            status, code, text = REFUSALS[problem.trouble]
        headers = {"Retry-After": str(problem.retry_after_s)} if status == 429 else {}
        return json_refusal({"code": code, "error": problem.message or text}, status=status, headers=headers)

    def _respond(self, ask: Ask) -> Reply:
        request = read_body(ask.body, ResponsesRequest)
        _check(request.model, stream=request.stream, tokens_max=request.max_output_tokens)
        written = self._write(ask, request.input, tokens_max=request.max_output_tokens)
        usage = _usage(tokens_in((request.instructions or "") + text_in_all(request.input)), written.tokens)
        name = digest(self._world.seed, "xai", ask.body)
        status = "incomplete" if written.is_cut else "completed"
        content = [{"type": "output_text", "text": written.text, "annotations": []}]
        message = {"type": "message", "id": f"msg_{name}", "role": "assistant", "status": status, "content": content}
        body = {
            "id": f"resp_{name}",
            "object": "response",
            "created_at": self._world.clock.unix_s(),
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if written.is_cut else None,
            "model": request.model,
            "error": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "output": [message],
            "parallel_tool_calls": True,
            "store": request.store,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                **usage,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }
        return json_reply(body, tokens=usage)

    def _chat(self, ask: Ask) -> Reply:
        request = read_body(ask.body, ChatRequest)
        tokens_max = request.max_completion_tokens or request.max_tokens
        _check(request.model, stream=request.stream, tokens_max=tokens_max)
        if not request.messages:
            refuse(Trouble.INVALID, "messages must not be empty")
        written = self._write(ask, request.messages, tokens_max=tokens_max)
        usage = _usage(tokens_in(text_in_all(request.messages)), written.tokens)
        body = {
            "id": digest(self._world.seed, "xai-chat", ask.body),
            "object": "chat.completion",
            "created": self._world.clock.unix_s(),
            "model": request.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": written.text, "refusal": None},
                    "finish_reason": "length" if written.is_cut else "stop",
                }
            ],
            "usage": {
                "prompt_tokens": usage["input_tokens"],
                "completion_tokens": usage["output_tokens"],
                "total_tokens": usage["total_tokens"],
            },
        }
        return json_reply(body, tokens=usage)

    def _write(self, ask: Ask, said: str | list[SaidTurn], *, tokens_max: int | None) -> Text:
        prompt = text_by_user(said)
        movie = self._world.movie_named_in(prompt)
        ask.refuse_if_failing(movie)
        return cut(self._world.prose.roast(prompt, movie=movie, voice="grok"), tokens_max=tokens_max)


def _check(model: str, *, stream: bool, tokens_max: int | None) -> None:
    if not model.startswith(MODEL_PREFIX):
        refuse(Trouble.NOT_FOUND, f"The model {model} does not exist or your team does not have access to it.")
    if stream:
        refuse(Trouble.INVALID, "the sandbox does not stream xAI answers; leave `stream` out")
    if tokens_max is not None and tokens_max < 1:
        refuse(Trouble.INVALID, "the output token limit must be at least 1")


def _usage(input_tokens: int, output_tokens: int) -> Mapping[str, int]:
    return {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}
