"""An act: what one person does at one time. Each change that it makes is recorded in the change's own transaction."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Final, TypeVar

from conveyor.audit.trail import TRAIL, Audit, Record, Who, app_actor
from conveyor.audit.views import count_of, differences
from conveyor.model.errors import ConflictError
from conveyor.store.protocol import Store
from conveyor.store.records import TRAIL_KIND
from conveyor.store.witness import Change, current_witness, split_name, watched

T = TypeVar("T")

_LOG: Final = logging.getLogger("conveyor.audit")
_PERSON: Final[ContextVar[str | None]] = ContextVar("conveyor_person", default=None)


class Act:
    """The witness of what somebody does. `target` may be found out on the way; without one it is what was changed.
    Where a record would break the chain, a strict one refuses the change, and others tell the log."""

    def __init__(
        self, audit: Audit, who: Who, action: str, target: Callable[[], str | None], *, request_id: str = "",
        is_strict: bool = True, only_changes: bool = False,
    ) -> None:  # fmt: skip
        self._audit = audit
        self._who = who
        self._action = action
        self._target = target
        self._request_id = request_id
        self._is_strict = is_strict
        self._is_able = True
        self._only_changes = only_changes
        self._left: list[bytes] = []
        self._is_over = False
        self.records = 0
        """How many are written, or are to be."""

    # `Witness`

    @property
    def trail(self) -> str:
        return TRAIL

    def examine(self, head: bytes) -> None:
        try:
            self._audit.examine(head)
        except ConflictError:
            if self._is_strict:
                raise
            self._is_able = False

    def describe(self, change: Change, now: int) -> bytes | None:
        before, after = differences(change, now)
        count = count_of(change.answer)
        is_same = before == {} == after
        if self._only_changes and (change.before is None or is_same):
            return None
        is_nothing = count == 0 or change.answer is False or (is_same and count is None and change.before is not None)
        if self._is_over or is_nothing:
            return None
        name = split_name(change.name)[1] if change.kind == "document" else change.name
        body = self._audit.body_of(
            Record(
                at=now, actor=self._who.token_id or "", name=self._who.name, address=self._who.address,
                action=self._action, target=self._target() or name, result="ok", request_id=self._request_id,
                via=self._who.via, before=None if is_same else before, after=None if is_same else after, count=count,
            )
        )  # fmt: skip
        if self._is_able:
            return body
        _LOG.warning("without CONVEYOR_PEPPER this is not in the audit trail: %s", body.decode())
        return None

    def seal(self, before: bytes, body: bytes) -> bytes:
        return self._audit.seal(before, body)

    def tell(self, body: bytes | None, *, is_written: bool) -> None:
        if body is None:
            return
        self.records += 1
        if not is_written:
            self._left.append(body)

    # Its life

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """What is changed within the block is this act's."""
        with watched(self):
            try:
                yield
            finally:
                self._is_over = True  # tasks that were begun within may go on

    async def write_rest(self) -> None:
        """What could not be written with its change: it lies in another store than the trail."""
        while self._left:
            await self._audit.append(self._left[0])
            del self._left[0]


@contextlib.asynccontextmanager
async def acting(
    store: Store,
    action: str,
    target: str | None = None,
    *,
    who: Callable[[], Who] | None = None,
    only_changes: bool = False,
) -> AsyncIterator[None]:
    """What is changed within the block is recorded, unless it is part of an act already. Without `who` an app acts;
    with `only_changes`, what is new is not recorded."""
    if current_witness() is not None or store.keeps_others:
        yield
        return
    actor = app_actor(_PERSON.get()) if who is None else who()
    audit, is_strict = Audit(store, pepper=read_pepper()), who is not None
    act = Act(audit, actor, action, lambda: target, is_strict=is_strict, only_changes=only_changes)
    try:
        with act.watch():
            yield
    finally:
        await act.write_rest()


async def looking(store: Store, action: str, target: str, who: Who, look: Callable[[], Awaitable[T]]) -> T:
    """What `look` finds, once it is recorded that somebody has seen it. `ConflictError` where that would break the
    chain."""
    if store.keeps_others:  # whoever keeps it records it
        return await look()
    audit = Audit(store, pepper=read_pepper())
    head = await store.get_document(TRAIL_KIND, TRAIL)
    audit.examine(b"" if head is None else head.body)
    found = await look()
    await audit.record(who, action, target, result="ok")
    return found


def read_pepper() -> str | None:
    """CONVEYOR_PEPPER, which the server checks when it starts."""
    return os.environ.get("CONVEYOR_PEPPER") or None


@contextlib.contextmanager
def acting_as(person: str) -> Iterator[None]:
    """Until the end of the block, what an app changes it changes for this person, and the trail says so."""
    token = _PERSON.set(person)
    try:
        yield
    finally:
        _PERSON.reset(token)
