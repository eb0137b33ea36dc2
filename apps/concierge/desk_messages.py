"""HTTP for messages: the inbox, composing, reviewing, scheduling, cancelling, history."""

import secrets
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from . import clock
from .answers import answer, choice_in, number_in, read_json
from .entry import Address, address_of
from .errors import FieldError, RefusedError
from .inbox import PAGE_MAX
from .jobs import EmailJob, SmsJob
from .messages import Wish
from .people import Person
from .records import Message, view_of
from .rights import RIGHTS, Right
from .room import Room
from .words import Channel, Role, State, Urgency

PAGE = 50
REASON_CHARS_MAX = 300
LOOK_S = 600.0
LOOKS_MAX = 10_000
THEN = ("draft", "review", "send")


class Compose(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /api/messages` and `PUT /api/messages/{id}`."""

    channel: Channel
    recipient: str
    content: str
    subject: str = ""
    priority: Urgency = Urgency.NORMAL
    once: bool = False
    """At most once, as reminders want it."""
    send_at: str | None = None
    """An ISO moment; none is as soon as it is sent."""
    then: str = "draft"
    """`draft`, `review` (hand it in), or `send` (for those who need no review)."""
    version: int | None = None
    """Of what is edited, so that nobody overwrites somebody else's words."""

    def wish(self, id: str) -> Wish:
        """`FieldError`."""
        if self.then not in THEN:
            raise FieldError("then", f"must be one of {', '.join(THEN)}")
        if self.channel is Channel.SMS and self.subject:
            raise FieldError("subject", "has no place in a text message")
        job: EmailJob | SmsJob
        if self.channel is Channel.EMAIL:
            job = EmailJob(
                message_id=id, recipient=self.recipient, subject=self.subject, content=self.content,
                priority=self.priority,
            )  # fmt: skip
        else:
            job = SmsJob(message_id=id, recipient=self.recipient, content=self.content, priority=self.priority)
        return Wish(job=job, once=self.once, send_at=read_moment("sendAt", self.send_at))


class Sending(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /api/messages/{id}/send`."""

    send_at: str | None = None


class Rejection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/messages/{id}/reject`."""

    reason: str


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of what needs none: `{}`."""


def read_moment(field: str, text: str | None) -> int | None:
    """An ISO moment in milliseconds. `FieldError`."""
    if text is None:
        return None
    try:
        return clock.read_iso(text)
    except ValueError:
        raise FieldError(field, "must be an ISO moment, such as 2026-12-24T09:00:00Z") from None


def may(person: Person, right: Right) -> bool:
    """Whether somebody has a right."""
    return right in RIGHTS[person.role]


class MessageDesk:
    """Answers calls about messages."""

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room
        self._looks: dict[tuple[str, str, str], float] = {}

    def addresses(self) -> list[Address]:
        """All of them."""
        one = "/api/messages/{message}"
        return [
            Address("GET", "/api/messages", Right.LIST, self.list),
            Address("POST", "/api/messages", Right.COMPOSE, self.compose),
            Address("GET", one, Right.LIST, self.show),
            Address("PUT", one, Right.COMPOSE, self.edit),
            Address("GET", f"{one}/history", Right.LIST, self.history),
            Address("POST", f"{one}/submit", Right.COMPOSE, self.submit),
            Address("POST", f"{one}/approve", Right.REVIEW, self.approve),
            Address("POST", f"{one}/reject", Right.REVIEW, self.reject),
            Address("POST", f"{one}/send", Right.SEND, self.send),
            Address("POST", f"{one}/cancel", Right.COMPOSE, self.cancel),
        ]

    async def list(self, request: Request, person: Person) -> Response:
        """A page of them, the newest first; with recipient and subject for those who may read them."""
        reads = may(person, Right.READ)
        recipient = request.query_params.get("recipient")
        if recipient and not reads:
            raise RefusedError(f"As {person.role} you may not look for recipients.", status=403)
        page = await self._room().inbox.page(
            limit=number_in(request, "limit", PAGE, least=1, most=PAGE_MAX),
            cursor=request.query_params.get("cursor"), state=choice_in(request, "state", State),
            channel=choice_in(request, "channel", Channel), author=request.query_params.get("author"),
            recipient=recipient,
        )  # fmt: skip
        shown = f"{len(page.items)} from {page.items[0].id} to {page.items[-1].id}" if page.items else "none"
        if self._is_news(person, request.url.query, shown):
            await self._room().trail.record(person.at(address_of(request)), Right.LIST, shown)
        items = [msgspec.structs.replace(view_of(each, with_text=reads), content=None) for each in page.items]
        return answer({"items": items, "next": page.next})

    def _is_news(self, person: Person, query: str, shown: str) -> bool:
        """Whether somebody sees others than lately: a page that looks every few seconds is one look."""
        now_s, look = clock.monotonic_s(), (person.name, query, shown)
        if now_s - self._looks.get(look, -LOOK_S) < LOOK_S:
            return False
        if len(self._looks) >= LOOKS_MAX:
            self._looks.clear()
        self._looks[look] = now_s
        return True

    async def show(self, request: Request, person: Person) -> Response:
        """One, with its text for those who may read it; that they did is recorded first."""
        message = await self._need(request)
        reads = may(person, Right.READ)
        await self._room().trail.record(
            person.at(address_of(request)), Right.READ if reads else Right.LIST, message.id
        )
        return answer(view_of(message, with_text=reads))

    async def history(self, request: Request, person: Person) -> Response:
        """All that happened to it."""
        message = await self._need(request)
        await self._room().trail.record(person.at(address_of(request)), "message.history", message.id)
        return answer({"items": await self._room().messages.history(message.id)})

    async def compose(self, request: Request, person: Person) -> Response:
        """A new one; 201."""
        new: Compose = await read_json(request, Compose)
        if new.then == "send" and not may(person, Right.SEND):
            raise RefusedError(f"As {person.role} you may not send without a review.", status=403)
        who, messages = person.at(address_of(request)), self._room().messages
        wish = new.wish(f"msg-{secrets.token_hex(10)}")
        if new.then == "send":
            return self._shown((await messages.enqueue([wish], who))[0], person, status=201)
        message = await messages.compose(wish, who)
        if new.then == "review":
            message = await messages.submit(message.id, who)
        return self._shown(message, person, status=201)

    async def edit(self, request: Request, person: Person) -> Response:
        """Other words, before it goes; it is a draft again. Assistants edit their own."""
        new: Compose = await read_json(request, Compose)
        message = await self._own(request, person)
        who, messages = person.at(address_of(request)), self._room().messages
        if new.then == "send" and not may(person, Right.SEND):
            raise RefusedError(f"As {person.role} you may not send without a review.", status=403)
        edited = await messages.edit(message.id, new.wish(message.id), who, version=new.version)
        if new.then == "review":
            edited = await messages.submit(edited.id, who)
        elif new.then == "send":
            edited = await messages.send(edited.id, who)
        return self._shown(edited, person)

    async def submit(self, request: Request, person: Person) -> Response:
        """For review."""
        await read_json(request, Nothing)
        message = await self._own(request, person)
        return self._shown(await self._room().messages.submit(message.id, person.at(address_of(request))), person)

    async def approve(self, request: Request, person: Person) -> Response:
        """Reviewed: it goes."""
        await read_json(request, Nothing)
        message = await self._room().messages.approve(
            request.path_params["message"], person.at(address_of(request)), own=person.role is Role.ADMIN
        )
        return self._shown(message, person)

    async def reject(self, request: Request, person: Person) -> Response:
        """Reviewed: it goes back to its author."""
        body: Rejection = await read_json(request, Rejection)
        if not 1 <= len(body.reason.strip()) <= REASON_CHARS_MAX or not body.reason.isprintable():
            raise FieldError("reason", f"must be one line of 1 to {REASON_CHARS_MAX} characters")
        who = person.at(address_of(request))
        return self._shown(await self._room().messages.reject(request.path_params["message"], who, body.reason), person)

    async def send(self, request: Request, person: Person) -> Response:
        """A draft, without a review: now, or later."""
        body: Sending = await read_json(request, Sending)
        message = await self._room().messages.send(
            request.path_params["message"], person.at(address_of(request)), send_at=read_moment("sendAt", body.send_at)
        )
        return self._shown(message, person)

    async def cancel(self, request: Request, person: Person) -> Response:
        """It does not go. Whoever may not send cancels only what is their own."""
        await read_json(request, Nothing)
        message = await self._own(request, person)
        return self._shown(await self._room().messages.cancel(message.id, person.at(address_of(request))), person)

    async def _need(self, request: Request) -> Message:
        found = await self._room().messages.find(request.path_params["message"])
        if found is None:
            raise RefusedError("There is no such message.", status=404)
        return found

    async def _own(self, request: Request, person: Person) -> Message:
        found = await self._need(request)
        if found.created_by != person.name and not may(person, Right.SEND):
            raise RefusedError("This message is somebody else's.", status=403)
        return found

    def _shown(self, message: Message, person: Person, *, status: int = 200) -> Response:
        return answer(view_of(message, with_text=may(person, Right.READ)), status=status)
