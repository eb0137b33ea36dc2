"""Anthropic's request as blocks: read, held against the breakpoint rules, laid out as the cache sees it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from .prompt_cache import Block, Ttl
from .prose import tokens_in
from .provider import Trouble, read_body, refuse
from .transcript import SaidTurn

BREAKPOINTS_MAX: Final = 4
MODEL_PREFIX: Final = "claude-"
ROLES: Final = ("user", "assistant")
ORDER_TEXT: Final = (
    "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
    "Note that blocks are processed in the following order: `tools`, `system`, `messages`."
)

RawBlock = dict[str, Any]


class PromptRequest(msgspec.Struct, frozen=True):
    """The part of a request that costs input tokens; counting asks for no more than this."""

    model: str
    messages: list[SaidTurn]
    system: str | list[RawBlock] | None = None
    tools: list[RawBlock] = []
    cache_control: dict[str, Any] | None = None


class MessagesRequest(PromptRequest, frozen=True, kw_only=True):
    """A request to write."""

    max_tokens: int
    stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedBlock:
    """One block, where it stands in the request, and who speaks in it."""

    place: str
    role: str
    raw: RawBlock


def read_prompt(body: bytes) -> PromptRequest:
    """Read a request to count."""
    return _checked(read_body(body, PromptRequest))


def read_messages(body: bytes) -> MessagesRequest:
    """Read a request to write."""
    request = read_body(body, MessagesRequest)
    if request.max_tokens < 1:
        refuse(Trouble.INVALID, "max_tokens: Input should be greater than or equal to 1")
    _checked(request)
    return request


def blocks_of(request: PromptRequest) -> list[Block]:
    """Lay the prompt out: tools, then system, then messages."""
    placed = list(_placed(request))
    marks = [_ttl(block) for block in placed]
    if request.cache_control is not None and marks:
        marks[-1] = _ttl(PlacedBlock(place="", role="", raw={"cache_control": request.cache_control}))
    _check_marks([(block.place, mark) for block, mark in zip(placed, marks, strict=True) if mark])
    return [_block(block, mark) for block, mark in zip(placed, marks, strict=True)]


def _checked(request: PromptRequest) -> PromptRequest:
    if not request.model.startswith(MODEL_PREFIX):
        refuse(Trouble.NOT_FOUND, f"model: {request.model}")
    if not request.messages:
        refuse(Trouble.INVALID, "messages: at least one message is required")
    for place, turn in enumerate(request.messages):
        if turn.role not in ROLES:
            refuse(Trouble.INVALID, f"messages.{place}.role: Input should be 'user' or 'assistant'")
        if not turn.content:
            refuse(Trouble.INVALID, f"messages.{place}: all messages must have non-empty content")
    return request


def _placed(request: PromptRequest) -> Iterator[PlacedBlock]:
    for number, tool in enumerate(request.tools):
        yield PlacedBlock(place=f"tools.{number}", role="", raw=tool)
    for number, raw in enumerate(_as_blocks(request.system)):
        yield PlacedBlock(place=f"system.{number}", role="", raw=raw)
    for turn_number, turn in enumerate(request.messages):
        for number, raw in enumerate(_as_blocks(turn.content)):
            yield PlacedBlock(place=f"messages.{turn_number}.content.{number}", role=turn.role, raw=raw)


def _as_blocks(content: str | list[RawBlock] | None) -> list[RawBlock]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content or []


def _ttl(block: PlacedBlock) -> Ttl | None:
    control = block.raw.get("cache_control")
    if control is None:
        return None
    where = f"{block.place}.cache_control".lstrip(".")
    if not isinstance(control, dict) or control.get("type") != "ephemeral":
        refuse(Trouble.INVALID, f"{where}.type: Input should be 'ephemeral'")
    if block.raw.get("type") == "text" and not block.raw.get("text"):
        refuse(Trouble.INVALID, f"{block.place}: cache_control cannot be set for empty text blocks")
    ttl = control.get("ttl") or Ttl.FIVE_MINUTES
    if ttl not in tuple(Ttl):
        refuse(Trouble.INVALID, f"{where}.ttl: Input should be '5m' or '1h'")
    return Ttl(ttl)


def _check_marks(marks: list[tuple[str, Ttl]]) -> None:
    if len(marks) > BREAKPOINTS_MAX:
        text = f"A maximum of {BREAKPOINTS_MAX} blocks with cache_control may be provided. Found {len(marks)}."
        refuse(Trouble.INVALID, text)
    is_short_seen = False
    for place, ttl in marks:
        if ttl is Ttl.ONE_HOUR and is_short_seen:
            refuse(Trouble.INVALID, f"{place}.cache_control.ttl: {ORDER_TEXT}")
        is_short_seen = is_short_seen or ttl is Ttl.FIVE_MINUTES


def _block(block: PlacedBlock, ttl: Ttl | None) -> Block:
    plain = {name: value for name, value in block.raw.items() if name != "cache_control"}
    written = msgspec.json.encode(plain, order="deterministic").decode()
    text = plain["text"] if isinstance(plain.get("text"), str) else written
    return Block(text=f"{block.place}\x1f{block.role}\x1f{written}", tokens=tokens_in(text), ttl=ttl)
