"""Payloads at rest: of queues that an app encrypts, the store gets a sealed letter in place of a body.

A letter is a JSON object, so that whatever shows bodies shows what it says in the clear: by which key it is sealed, and
for which place. The rest is AES-256-GCM under a nonce of its own, bound to that place. Only who holds the key reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from conveyor.model.beside import SealedBodyError
from conveyor.model.errors import InvalidSettingError
from conveyor.model.group import GROUP_HEADER
from conveyor.model.ids import MessageId
from conveyor.model.message import SEALED_MARK, ContentType, Draft, Lease, Peeked

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_BEGINNING: Final = re.compile(SEALED_MARK + rb'[0-9a-f]{16}","queue":"')
NONCE_BYTES: Final = 12
OVERHEAD_BYTES_MAX: Final = 512
"""What a letter has beside 4 bytes for each 3 of its body."""
VARIABLE: Final = "CONVEYOR_SECRETS_KEY"
_RESULT: Final = "result/"
_ANY_MESSAGE: Final = "message"
"""Sent to another conveyor, which gave it an id."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept in place of a body. All but `data` is read by anybody and changed by nobody."""

    sealed_with: str
    """The key's id."""
    queue: str
    place: str
    """What it is within the queue: `message/ID` (`message` where another conveyor gives the id), `result/ID`,
    `step/ID/NAME` or `event/ID/NAME`."""
    content_type: ContentType
    nonce: bytes
    data: bytes


class Sealer:
    """Seals what goes into the queues of some patterns, and opens what is sealed, wherever it comes from."""

    def __init__(
        self,
        patterns: Sequence[str] = (),
        keys: Callable[[], Mapping[str, bytes]] = dict,
        leads_to: Callable[[str, str], bool] = lambda _origin, _queue: False,
    ) -> None:
        """`keys` by their ids, the first one seals. `leads_to` says whether dead letters of one queue go to another."""
        self.patterns = tuple(patterns)
        self._keys = keys
        self._leads_to = leads_to
        self._ciphers: dict[str, AESGCM] = {}

    def covers(self, queue: str) -> bool:
        """Whether what goes into this queue is to be sealed."""
        return any(fnmatchcase(queue, pattern) for pattern in self.patterns)

    def forget(self) -> None:
        """Other keys may be here from now on."""
        self._ciphers.clear()

    def check(self) -> None:
        """`InvalidSettingError` if something is to be sealed and there is no key to do it."""
        if self.patterns:
            self._first()

    def seal_draft(self, draft: Draft, *, knows_id: bool = True) -> Draft:
        """As the store is to have it, unless it is sealed already. `knows_id`: the store keeps it under its own id."""
        if is_sealed(draft.body):
            return draft
        place = _message(draft.id) if knows_id else _ANY_MESSAGE
        body = self.seal(draft.queue, place, draft.body, draft.content_type)
        return replace(draft, body=body, content_type=ContentType.JSON)

    def seal(self, queue: str, place: str, body: bytes, content_type: ContentType = ContentType.JSON) -> bytes:
        """The letter. `InvalidSettingError` without a key."""
        key_id, cipher = self._first()
        nonce = os.urandom(NONCE_BYTES)
        data = cipher.encrypt(nonce, body, _bound(queue, place, content_type))
        return msgspec.json.encode(
            Letter(sealed_with=key_id, queue=queue, place=place, content_type=content_type, nonce=nonce, data=data)
        )

    def keep(self, queue: str, place: str, body: bytes) -> bytes:
        """JSON as it is to be kept for a job of this queue: sealed, if the queue is."""
        return self.seal(queue, place, body) if self.covers(queue) else body

    def open_lease(self, lease: Lease) -> tuple[bytes, ContentType]:
        """The body of a delivery, and how it is to be read. `SealedBodyError`."""
        if not is_sealed(lease.body):
            return lease.body, lease.content_type
        letter = _read(lease.queue, lease.body)
        place = _ANY_MESSAGE if letter.place == _ANY_MESSAGE else _message(lease.id)
        is_fed = letter.place.startswith(_RESULT) and _is_of_group(lease.headers)  # by its forerunner in a chain
        if not is_fed:
            self._check_place(letter, lease.queue, place)
        return self._open(letter, lease.queue), letter.content_type

    def opened(self, message: Peeked) -> Peeked:
        """A message that somebody looks at, wherever it lies, as it was sent. `SealedBodyError`."""
        if not is_sealed(message.body):
            return message
        letter = _read(message.queue, message.body)
        if letter.place not in (_ANY_MESSAGE, _message(message.id)) and not letter.place.startswith(_RESULT):
            self._check_place(letter, letter.queue, _message(message.id))
        return replace(message, body=self._open(letter, message.queue), content_type=letter.content_type)

    def open_kept(self, queue: str, place: str, body: bytes) -> bytes:
        """What `keep` has kept. An empty `queue` stands for any. `SealedBodyError`."""
        if not is_sealed(body):
            return body
        letter = _read(queue, body)
        self._check_place(letter, queue or letter.queue, place)
        return self._open(letter, letter.queue)

    def seal_edit(self, was: Peeked, body: bytes, content_type: ContentType) -> tuple[bytes, ContentType]:
        """What is to stand in a message's place: sealed if what was there is. `InvalidSettingError` without a key."""
        origin = was.queue if was.dead is None else was.dead.origin_queue
        if is_sealed(was.body):
            origin = _read(was.queue, was.body).queue
        elif not self.covers(origin):
            return body, content_type
        if body == was.body:
            return body, content_type
        return self.seal(origin, _message(was.id), body, content_type), ContentType.JSON

    def reseal(self, queue: str, body: bytes) -> bytes | None:
        """The same letter under the first key; None: it is no letter, or sealed with that already. `SealedBodyError`,
        `InvalidSettingError`."""
        if not is_sealed(body):
            return None
        letter = _read(queue, body)
        if letter.sealed_with == self._first()[0]:
            return None
        return self.seal(letter.queue, letter.place, self._open(letter, queue), letter.content_type)

    def _check_place(self, letter: Letter, queue: str, place: str) -> None:
        if letter.place == place and (letter.queue == queue or self._leads_to(letter.queue, queue)):
            return
        problem = f"it belongs to another place, `{letter.place}` of `{letter.queue}`"
        raise SealedBodyError(queue, letter.sealed_with, problem, hint=_OTHERS)

    def _first(self) -> tuple[str, AESGCM]:
        if not self._ciphers:
            self._read_keys()
        for key_id, cipher in self._ciphers.items():
            return key_id, cipher
        hint = f"`conveyor keys make`, or set {VARIABLE} (`openssl rand -base64 32`), the same on every machine"
        raise InvalidSettingError("encrypted", list(self.patterns), "there is no key to seal with", hint=hint)

    def _open(self, letter: Letter, queue: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        if letter.sealed_with not in self._ciphers:
            self._read_keys()  # a file may have got it since
        cipher = self._ciphers.get(letter.sealed_with)
        if cipher is None:
            raise SealedBodyError(queue, letter.sealed_with, "it is not here", hint=_ADD)
        try:
            return cipher.decrypt(letter.nonce, letter.data, _bound(letter.queue, letter.place, letter.content_type))
        except (InvalidTag, ValueError):  # ValueError: a nonce that is none
            raise SealedBodyError(queue, letter.sealed_with, "it was changed in the store", hint=_CHANGED) from None

    def _read_keys(self) -> None:
        keys = self._keys()
        if not keys:
            return
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # only those who encrypt pay for it

        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}


_ADD: Final = f"add it to {VARIABLE} of the workers, then send it back: `conveyor dlq redrive`, or retry the job"
_CHANGED: Final = "send it anew; somebody wrote to the database"
_OTHERS: Final = "send it back to its queue (`conveyor dlq redrive`), or declare that queue's consumer in this app"


def _message(id: MessageId) -> str:
    return f"message/{id.hex()}"


def is_sealed(body: bytes) -> bool:
    """Whether this is a letter."""
    return body.startswith(SEALED_MARK) and _BEGINNING.match(body) is not None


def _bound(queue: str, place: str, content_type: ContentType) -> bytes:
    return f"conveyor payload\0{queue}\0{place}\0{content_type.value}".encode()


_decode: Final = msgspec.json.Decoder(Letter).decode


def _is_of_group(headers: bytes | None) -> bool:
    """Whether conveyor itself made it a member: nobody else may write that header."""
    return headers is not None and GROUP_HEADER in msgspec.json.decode(headers, type=dict[str, object])


def _read(queue: str, body: bytes) -> Letter:
    try:
        return _decode(body)
    except msgspec.MsgspecError:
        raise SealedBodyError(queue, "?", "it is no letter that this release knows", hint=_CHANGED) from None


NO_KEYS: Final = Sealer()
"""Seals nothing, and opens nothing."""
