"""The records as they are kept: each change is one transaction, with the event that tells of it.

queued -> processing -> completed
              |  ^  `-> failed         failed -> processing   if its job is tried again by hand, and only then
              v  |
           retrying                    any but the final ones -> cancelled

A *run* is what lies between two tries by hand, a *turn* one delivery of the job. A worker that lost the job keeps its
old turn, and fails nothing that another has begun.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from conveyor_apps.tables import Database, Row, Transaction

from . import clock
from .errors import RefusedError
from .events import Event, body_of
from .records import (
    IN_DOUBT,
    Failure,
    Generation,
    GenerationRequest,
    Parameters,
    ProviderName,
    State,
    Submission,
    SubmissionState,
    VideoResult,
)
from .status import RETRIES


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event that Next.js is told of; `id` is its `webhook-id`."""

    id: str
    seq: int
    """Within its generation."""
    event: str
    body: str
    """JSON."""
    created_at: str
    handed_at: str | None
    """When the webhooks got it."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery of a generation's job."""

    generation: Generation
    """As it stands: where it has ended, nothing was begun."""
    number: int
    """Grows with each delivery."""
    is_new: bool
    """Another try, and no return from a pause."""


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """One that has not ended, and its job."""

    number: int
    """Grows from one generation to the next."""
    id: str
    user_id: str
    job_id: str
    turn: int
    """The last one; 0 before the first."""


class Ledger:
    """All generations. `new_event_id` makes the id by which a receiver knows an event: the `webhook-id`."""

    def __init__(self, database: Database, new_event_id: Callable[[], str]) -> None:
        self._database = database
        self._new_event_id = new_event_id

    # What callers ask for

    async def add(
        self, id: str, request: GenerationRequest, provider: ProviderName, model: str, idempotency: str | None
    ) -> tuple[Generation, bool]:
        """A new one and True, or the one that was made before with this user's idempotency key.
        `RefusedError` if that one was asked for otherwise."""

        def work(tx: Transaction) -> tuple[Generation, bool]:
            rows = tx.rows("find_by_idempotency", user_id=request.user_id, idempotency=idempotency)
            if rows:
                found = _get(tx, rows[0][0])
                if not _is_same(found, request):
                    text, hint = "This idempotency key was used for another request.", "Take a new key for another."
                    raise RefusedError(text, status=422, code="idempotency_key_reused", hint=hint)
                return found, False
            tx.change(
                "add_generation", id=id, user_id=request.user_id, idempotency=idempotency, prompt=request.prompt,
                parameters=_json(request.parameters), provider=provider, model=model, priority=request.priority,
            )  # fmt: skip
            return _get(tx, id), True

        return await self._database.write(work)

    async def get(self, id: str) -> Generation | None:
        """One as it stands."""
        return await self._database.read(lambda tx: _find(tx, id))

    async def list(
        self, *, user_id: str | None = None, state: State | None = None, before: str | None = None, limit: int = 50
    ) -> list[Generation]:
        """The newest first; those older than `before`, an id."""
        statement = "list_generations" if user_id is None else "list_of_user"
        rows = await self._database.read(
            lambda tx: tx.rows(statement, user_id=user_id, state=state, before=before, limit=limit)
        )
        return [_read(row) for row in rows]

    async def position(self, id: str) -> int | None:
        """1 for the next; None for one that does not wait."""

        def work(tx: Transaction) -> int | None:
            found = _find(tx, id)
            if found is None or found.state not in (State.QUEUED, State.RETRYING):
                return None
            return 1 + int(tx.rows("ahead_of", id=id)[0][0])

        return await self._database.read(work)

    async def line(self, limit: int) -> Sequence[str]:
        """The ids of those that wait, the next one first."""
        return [str(id) for (id,) in await self._database.read(lambda tx: tx.rows("line", limit=limit))]

    async def set_job(self, id: str, job_id: str) -> None:
        """It was sent, as this job."""
        await self._database.write(lambda tx: tx.change("set_job", id=id, job_id=job_id))

    async def unsent(self, *, for_ms: int) -> Sequence[Generation]:
        """Whose job was not sent though they are so old: the process died between the two."""

        def work(tx: Transaction) -> Sequence[Generation]:
            return [_get(tx, id) for (id,) in tx.rows("unsent", before=tx.now_ms - for_ms)]

        return await self._database.read(work)

    # What the job does

    async def start(self, id: str, *, run: int, attempt: int, job_id: str) -> Turn | None:
        """It is being worked on; None if it is not there. What has ended stays so, unless it failed and the job was
        tried again since: `run` says how often. The first start of a run is told, if its forerunner's end was."""

        def work(tx: Transaction) -> Turn | None:
            found = _find(tx, id)
            if found is None:
                return None
            last_run, turn = _turn(tx, id)
            is_again = found.state is State.FAILED and run > last_run
            if found.state.is_final and not is_again:
                return Turn(generation=found, number=turn, is_new=False)
            tx.change("take_turn", id=id, run=run, turn=turn + 1)
            if found.state is State.PROCESSING and (run, attempt) == (last_run, found.attempt):  # back from a pause
                return Turn(generation=found, number=turn + 1, is_new=False)
            if is_again:
                _begin_again(tx, found)
            tx.change("start", id=id, attempt=attempt)
            tx.change("set_job", id=id, job_id=job_id)
            started = _get(tx, id)
            if is_again or not tx.rows("has_event", id=id, event=Event.STARTED):
                self._tell(tx, Event.STARTED, started)
            return Turn(generation=started, number=turn + 1, is_new=True)

        return await self._database.write(work)

    async def move(self, id: str, progress: float, note: str) -> None:
        """How far it is, from 0 to 1, and what is being done."""
        await self._database.write(lambda tx: tx.change("move", id=id, progress=progress, note=note))

    async def retry(self, id: str, failure: Failure, *, turn: int) -> bool:
        """A try has failed; another comes, and is counted. Whether it was this turn's to say."""

        def work(tx: Transaction) -> bool:
            changed = tx.change("retry", id=id, error=_json(failure), turn=turn) > 0
            if changed:
                tx.change("tally", name=RETRIES, count=1)
            return changed

        return await self._database.write(work)

    async def complete(self, id: str, result: VideoResult) -> Generation:
        """The video is there. The same call may come twice; what had ended before stays so."""
        ended, _ = await self._end(id, State.COMPLETED, Event.COMPLETED, result=_json(result))
        return ended

    async def fail(self, id: str, failure: Failure, *, turn: int) -> bool:
        """It came to nothing, unless another turn has begun, or it had ended before: whether that is so now."""
        _, is_so = await self._end(id, State.FAILED, Event.FAILED, error=_json(failure), turn=turn)
        return is_so

    async def cancel(self, id: str, *, turn: int | None = None) -> Generation:
        """Nobody wants it any more, whoever is at it, or as long as it is this turn's; as `complete`. `RefusedError`
        for one that is not there."""
        ended, _ = await self._end(id, State.CANCELLED, Event.CANCELLED, turn=turn)
        return ended

    async def standing(self, id: str) -> tuple[Generation, int, int] | None:
        """One as it stands, its run and its turn."""

        def work(tx: Transaction) -> tuple[Generation, int, int] | None:
            found = _find(tx, id)
            return None if found is None else (found, *_turn(tx, id))

        return await self._database.read(work)

    async def open(self, *, for_ms: int, after: int, limit: int) -> Sequence[Open]:
        """Those with a job of which nothing was heard for so long, numbered higher than `after`, the oldest first."""
        rows = await self._database.read(
            lambda tx: tx.rows("open", before=tx.now_ms - for_ms, after=after, limit=limit)
        )
        return [Open(number=a, id=b, user_id=c, job_id=d, turn=e) for a, b, c, d, e in rows]

    # Orders at a provider

    async def submission(self, id: str) -> Submission:
        """The one that is begun or taken, else the next one."""

        def work(tx: Transaction) -> Submission:
            rows = tx.rows("last_submission", id=id)
            if not rows:
                return Submission(number=1)
            number, state, operation, taken_at = rows[0]
            if state in (SubmissionState.REFUSED, SubmissionState.FAILED):
                return Submission(number=number + 1)
            return Submission(
                number=number, state=SubmissionState(state), operation=operation, taken_ms=taken_at or 0
            )  # fmt: skip

        return await self._database.read(work)

    async def begin_submission(self, id: str, number: int) -> bool:
        """Whether the caller is the one who may send it: of all processes, at all times, one is."""
        return await self._database.write(lambda tx: tx.change("begin_submission", id=id, number=number) > 0)

    async def take_submission(self, id: str, number: int, operation: str) -> None:
        """The provider has taken it."""

        def work(tx: Transaction) -> None:
            if tx.change("take_submission", id=id, number=number, operation=operation):
                tx.change("set_operation", id=id, operation=operation)

        await self._database.write(work)

    async def close_submission(self, id: str, number: int, state: SubmissionState) -> None:
        """It was refused, or came to nothing: the next try submits anew."""
        await self._database.write(lambda tx: tx.change("close_submission", id=id, number=number, state=state))

    # Events

    async def unhanded(self, id: str) -> Sequence[tuple[str, str, bytes]]:
        """The id, name and body of its events that the webhooks have not got, the first first."""
        rows = await self._database.read(lambda tx: tx.rows("unhanded_of", id=id))
        return [(event_id, event, body.encode()) for event_id, event, body in rows]

    async def hand(self, event_id: str) -> None:
        """The webhooks have got it."""
        await self._database.write(lambda tx: tx.change("hand_event", event_id=event_id))

    async def silent(self, *, for_ms: int) -> Sequence[str]:
        """Generations with events so old that the webhooks have not got."""
        rows = await self._database.read(lambda tx: tx.rows("unhanded", before=tx.now_ms - for_ms))
        return [str(id) for (id,) in rows]

    async def events(self, id: str) -> Sequence[EventRow]:
        """All that happened, the first first."""
        rows = await self._database.read(lambda tx: tx.rows("events_of", id=id))
        return [
            EventRow(id=a, seq=b, event=c, body=d, created_at=clock.iso(e), handed_at=clock.iso_or_none(f))
            for a, b, c, d, e, f in rows
        ]

    # What is over

    async def over(self, *, for_ms: int, limit: int) -> Sequence[tuple[str, str | None]]:
        """The ids, and the videos' keys, of those that ended so long ago, the oldest first."""
        rows = await self._database.read(lambda tx: tx.rows("over", before=tx.now_ms - for_ms, limit=limit))
        return [(id, None if text is None else msgspec.json.decode(text, type=VideoResult).key) for id, text in rows]

    async def forget(self, ids: Sequence[str], *, for_ms: int) -> int:
        """Remove these, unless they were begun again: how many went."""

        def work(tx: Transaction) -> int:
            return sum(tx.change("forget", id=id, before=tx.now_ms - for_ms) for id in ids)

        return await self._database.write(work)

    async def _end(
        self, id: str, state: State, event: Event, *, result: str | None = None, error: str | None = None,
        turn: int | None = None,
    ) -> tuple[Generation, bool]:  # fmt: skip
        def work(tx: Transaction) -> tuple[Generation, bool]:
            _get(tx, id)
            changed = tx.change("end", id=id, state=state, result=result, error=error, turn=turn) > 0
            ended = _get(tx, id)
            if changed:
                self._tell(tx, event, ended)
            return ended, changed

        return await self._database.write(work)

    def _tell(self, tx: Transaction, event: Event, generation: Generation) -> None:
        body = body_of(event, generation, clock.iso(tx.now_ms))
        tx.change("add_event", event_id=self._new_event_id(), id=generation.id, event=event, body=_json(body))


def _get(tx: Transaction, id: str) -> Generation:
    found = _find(tx, id)
    if found is None:
        raise RefusedError("There is no such generation.", status=404)
    return found


def _find(tx: Transaction, id: str) -> Generation | None:
    rows = tx.rows("find_generation", id=id)
    return _read(rows[0]) if rows else None


def _turn(tx: Transaction, id: str) -> tuple[int, int]:
    rows = tx.rows("read_turn", id=id)
    return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)


def _begin_again(tx: Transaction, failed: Generation) -> None:
    tx.change("begin_again", id=failed.id)
    if failed.error is not None and failed.error.code == IN_DOUBT:
        tx.change("give_up_doubt", id=failed.id)


def _is_same(found: Generation, request: GenerationRequest) -> bool:
    return (
        found.prompt == request.prompt
        and found.parameters == request.parameters
        and found.priority == request.priority
        and (request.provider is None or found.provider is request.provider)
        and (not request.model or found.model == request.model)
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _read(row: Row) -> Generation:
    (
        id, user_id, prompt, parameters, provider, model, priority, state, progress, note, job_id, attempt, operation,
        result, error, seq, created_at, started_at, submitted_at, ended_at, updated_at,
    ) = row  # fmt: skip
    return Generation(
        id=id, user_id=user_id, prompt=prompt, parameters=msgspec.json.decode(parameters, type=Parameters),
        provider=ProviderName(provider), model=model, priority=priority, state=State(state), progress=progress,
        note=note, job_id=job_id, attempt=attempt, operation=operation,
        result=None if result is None else msgspec.json.decode(result, type=VideoResult),
        error=None if error is None else msgspec.json.decode(error, type=Failure),
        seq=seq, created_at=clock.iso(created_at), started_at=clock.iso_or_none(started_at),
        submitted_at=clock.iso_or_none(submitted_at), ended_at=clock.iso_or_none(ended_at),
        updated_at=clock.iso(updated_at),
    )  # fmt: skip
