"""Dead letters: looked at, edited, sent back, thrown away. `{queue}` is the dead letter queue itself."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from conveyor.model.duration import DAY_MS
from conveyor.model.errors import NotFoundError, VersionConflictError
from conveyor.model.ids import MessageId, read_id
from conveyor.model.message import ContentType, Peeked
from conveyor.model.refusals import InvalidRequestError
from conveyor.queue.admin import Queues
from conveyor.queue.dead_letter import ANY, DeadLetters, Filter
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.bodies import MessageShown, pack_body, pack_headers, read_headers, show_message
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor, write_cursor
from conveyor.server.rest.queues import Purged
from conveyor.server.rest.shapes import Asked, Page, PageAsked, Told
from conveyor.server.rest.versions import etag, wanted_tag
from conveyor.server.rights import Right

LETTERS_MAX: Final = 100
"""Of one page: each may be a large message."""
REDRIVEN_MAX: Final = 1_000

Id: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Age: TypeAlias = Annotated[int, Meta(ge=0, le=3_660 * DAY_MS)]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2_000)]


class LetterQueue(Told, frozen=True, kw_only=True):
    """A queue to which consumers dead-letter."""

    queue: str
    messages: int
    origins: list[str]
    """The queues whose consumers name it."""


class LettersAsked(Asked, frozen=True, kw_only=True):
    """Which dead letters, and which part of their list."""

    limit: Annotated[int, Meta(ge=1, le=LETTERS_MAX)] = LETTERS_MAX
    cursor: Annotated[str, Meta(min_length=1, max_length=4_096)] | None = None
    origin: Text | None = None
    reason: Text | None = None
    older_than_ms: Age | None = None
    newer_than_ms: Age | None = None


class LetterEdit(Asked, frozen=True, kw_only=True):
    """What becomes of a dead letter; what is left out stays as it is."""

    body: Any = UNSET
    content_type: ContentType | UnsetType = UNSET
    """Only with a body."""
    headers: dict[str, Any] | None | UnsetType = UNSET


class RedriveAsked(Asked, frozen=True, kw_only=True):
    """Which dead letters go back: these, or all that fit; nothing at all means all of them."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=REDRIVEN_MAX)] | None = None
    origin: Text | None = None
    reason: Text | None = None
    older_than_ms: Age | None = None
    newer_than_ms: Age | None = None


class Redriven(Told, frozen=True, kw_only=True):
    """How many went back. Those that are leased, or whose queue of origin is gone, stay."""

    redriven: int


async def list_letter_queues(call: Call) -> Answer:
    """Dead letter queues that the token may read, and how many messages lie in each."""
    asked = read_query(call, PageAsked)
    after = read_cursor("letter queues", asked.cursor, str) or ""
    feeders: dict[str, list[str]] = {}
    for info in await Queues(call.store).list():
        if info.consumer is not None and info.consumer.dead_letter_queue is not None:
            feeders.setdefault(info.consumer.dead_letter_queue, []).append(info.name)
    names = sorted(name for name in feeders if name > after and call.caller.may(Right.READ, name))
    page = cut_page("letter queues", names, asked.limit, lambda name: name)
    items = [
        LetterQueue(
            queue=name,
            messages=(await Queues(call.store).metrics(name)).backlog_messages,
            origins=[each for each in feeders[name] if call.caller.may(Right.READ, each)],
        )
        for name in page.items
    ]
    return Answer.json(Page(items=items, next_cursor=page.next_cursor))


async def list_letters(call: Call) -> Answer:
    """Dead letters, oldest first. A page of a filtered list may be short, or empty, and have a next one."""
    letters = _letters(call, Right.READ)
    asked = read_query(call, LettersAsked)
    of = f"letters of {letters.queue}"
    after = read_cursor(of, asked.cursor, int) or 0
    found, ended_at = await letters.search(_filter(call, asked), limit=asked.limit, after_seq=after)
    now = call.store.clock.now_ms()
    cursor = None if ended_at is None else write_cursor(of, ended_at)
    return Answer.json(Page(items=[show_message(each, now) for each in found], next_cursor=cursor))


async def get_letter(call: Call) -> Answer:
    """One dead letter with all that is known of it."""
    letters = _letters(call, Right.READ)
    return _shown(call, await letters.get(_id(call)))


async def change_letter(call: Call) -> Answer:
    """Change a dead letter's body or headers, so that it can be sent back."""
    letters = _letters(call, Right.MANAGE)
    asked = call.decode(LetterEdit)
    present = await letters.get(_id(call))
    tag = wanted_tag(call, "dead letter", call.path["message"])
    if tag is not None and tag != _version(present):
        raise VersionConflictError("dead letter", call.path["message"])
    body, content_type, headers = present.body, present.content_type, present.headers
    if asked.body is not UNSET:
        content_type = content_type if asked.content_type is UNSET else asked.content_type
        body = pack_body(asked.body, content_type)
    elif asked.content_type is not UNSET:
        raise InvalidRequestError("`content_type` changes only with `body`", status=422)
    if asked.headers is not UNSET:
        headers = pack_headers(read_headers(asked.headers, present=present.headers))
    return _shown(call, await letters.edit(present, body=body, content_type=content_type, headers=headers))


async def redrive_letters(call: Call) -> Answer:
    """Send dead letters back to the queues they came from, with their attempts at zero. A token that is bound to queues
    sends back to those that it may manage alone."""
    letters = _letters(call, Right.MANAGE)
    asked = call.decode(RedriveAsked) if call.body else RedriveAsked()
    wanted = _filter(call, asked)
    caller = call.caller
    may_go_to = None if caller.queues is None else partial(caller.may, Right.MANAGE)
    if asked.ids is None:
        return Answer.json(Redriven(redriven=await letters.redrive(wanted, may_go_to=may_go_to)))
    if wanted != ANY:
        raise InvalidRequestError("`ids` and a filter are two ways to choose", hint="give one of them", status=422)
    ids = [MessageId(bytes.fromhex(each)) for each in asked.ids]
    return Answer.json(Redriven(redriven=await letters.redrive_these(ids, may_go_to=may_go_to)))


async def purge_letters(call: Call) -> Answer:
    """Throw all dead letters of the queue away."""
    return Answer.json(Purged(purged=await _letters(call, Right.MANAGE).purge()))


def _letters(call: Call, right: Right) -> DeadLetters:
    name = call.path["queue"]
    call.require(right, name)
    return DeadLetters(call.store, name, call.sealer)


def _filter(call: Call, asked: LettersAsked | RedriveAsked) -> Filter:
    now = call.store.clock.now_ms()
    return Filter(
        origin=asked.origin,
        reason=asked.reason,
        died_before=None if asked.older_than_ms is None else now - asked.older_than_ms,
        died_after=None if asked.newer_than_ms is None else now - asked.newer_than_ms,
    )


def _id(call: Call) -> MessageId:
    found = read_id(call.path["message"])
    if found is None:
        raise NotFoundError("a message's id is 32 hex digits")
    return found


def _version(letter: Peeked) -> str:
    """Of what may be edited, and of this death."""
    facts = (letter.seq, letter.content_type, letter.body, letter.headers, letter.ready_at)
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:32]


def _shown(call: Call, letter: Peeked) -> Answer:
    shown: MessageShown = show_message(letter, call.store.clock.now_ms())
    return Answer.json(shown, headers=etag(_version(letter)))


OPERATIONS: Final = (
    Operation(
        method="GET", path="/dead-letters", right=Right.READ, handle=list_letter_queues, query=PageAsked,
        gives=Page[LetterQueue],
    ),
    Operation(
        method="GET", path="/dead-letters/{queue}", right=Right.READ, handle=list_letters, query=LettersAsked,
        action="dead_letter.peek", gives=Page[MessageShown],
    ),
    Operation(
        method="GET", path="/dead-letters/{queue}/{message}", right=Right.READ, handle=get_letter,
        action="dead_letter.peek", gives=MessageShown,
    ),
    Operation(
        method="PATCH", path="/dead-letters/{queue}/{message}", right=Right.MANAGE, handle=change_letter,
        action="dead_letter.edit", takes=LetterEdit, gives=MessageShown, versioned=True,
    ),
    Operation(
        method="POST", path="/dead-letters/{queue}/redrive", right=Right.MANAGE, handle=redrive_letters,
        action="dead_letter.redrive", takes=RedriveAsked, may_be_empty=True, gives=Redriven,
    ),
    Operation(
        method="POST", path="/dead-letters/{queue}/purge", right=Right.MANAGE, handle=purge_letters,
        action="dead_letter.purge", gives=Purged,
    ),
)  # fmt: skip
