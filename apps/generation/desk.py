"""The front desk: what HTTP and the command line ask of generation."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from .errors import RefusedError
from .ledger import Ledger
from .logbook import Component, Logbook
from .records import Generation, GenerationJob, GenerationRequest, State
from .relay import Hand
from .settings import Settings
from .status import QueueStatus, Statistics

LIST_MAX: Final = 200
KEY_CHARS_MAX: Final = 200

Send = Callable[[GenerationJob, int], Awaitable[str]]
"""Sends the job of a generation, with its priority: the job's id. Of jobs for one generation only one waits or runs."""
Withdraw = Callable[[str], Awaitable[None]]
"""Ends the job with this id, if it has not ended."""


class Desk:
    """Takes requests, and says how they stand."""

    def __init__(
        self, settings: Settings, ledger: Ledger, statistics: Statistics, log: Logbook, *, send: Send,
        withdraw: Withdraw, hand: Hand,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._ledger = ledger
        self._statistics = statistics
        self._send = send
        self._withdraw = withdraw
        self._log = log
        self._hand = hand

    async def create(self, request: GenerationRequest, idempotency_key: str | None = None) -> Generation:
        """A new generation, and its job; with a key that this user sent before, the one that was made then.
        `RefusedError`."""
        if idempotency_key is not None and not (
            1 <= len(idempotency_key) <= KEY_CHARS_MAX and idempotency_key.isprintable()
        ):
            raise RefusedError(f"An idempotency key has 1 to {KEY_CHARS_MAX} printable characters.", status=422)
        provider = request.provider or self._settings.provider
        model = request.model or self._settings.host(provider).model
        made, is_new = await self._ledger.add(new_id(), request, provider, model, idempotency_key)
        if is_new or not made.job_id:
            await self.send(made)
        return await self._get(made.id)

    async def send(self, generation: Generation) -> None:
        """Send its job: again, if nobody knows whether it was."""
        job = GenerationJob(generation_id=generation.id, user_id=generation.user_id)
        job_id = await self._send(job, generation.priority)
        await self._ledger.set_job(generation.id, job_id)
        self._log.info(
            Component.QUEUE, "Job added to queue", generationId=generation.id, userId=generation.user_id, jobId=job_id,
            priority=generation.priority,
        )  # fmt: skip

    async def get(self, id: str) -> Generation | None:
        """One as it stands."""
        return await self._ledger.get(id)

    async def position(self, id: str) -> int | None:
        """Its place in the queue: 1 for the next; None if it does not wait."""
        return await self._ledger.position(id)

    async def list(
        self, *, user_id: str | None = None, state: State | None = None, before: str | None = None, limit: int = 50
    ) -> list[Generation]:
        """The newest first; those older than the one with the id `before`."""
        return await self._ledger.list(user_id=user_id, state=state, before=before, limit=min(limit, LIST_MAX))

    async def cancel(self, id: str) -> Generation:
        """End it: what runs is told. `RefusedError` if there is none (404), or it has ended otherwise (409)."""
        ended = await self._ledger.cancel(id)
        if ended.state is not State.CANCELLED:
            raise RefusedError(f"It has ended: {ended.state}.", status=409)
        if ended.job_id:
            await self._withdraw(ended.job_id)
        self._log.info(Component.GENERATION, "Generation cancelled", generationId=id, userId=ended.user_id)
        await self._hand(id)
        return ended

    async def status(self) -> QueueStatus:
        """The queue as a whole."""
        return await self._statistics.status()

    async def _get(self, id: str) -> Generation:
        found = await self._ledger.get(id)
        if found is None:
            raise RefusedError("There is no such generation.", status=404)
        return found


def new_id() -> str:
    """It cannot be guessed: whoever has the id has the video."""
    return f"gen_{secrets.token_hex(12)}"
