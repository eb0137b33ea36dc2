"""One submission, sent once: who may send it is settled in the database before, and what it was called is there after.

    nothing --begin--> begun --the provider answers--> taken     its operation is polled, by whoever has the job then
                         |----the provider refuses--> refused    the next try begins another
                         `----the process is killed----------    begun, and nobody at it: in doubt

No protocol here lets us ask whether an order came through, or send it under a key that counts once. So what is in doubt
is not sent again, since a video costs money each time: the generation fails, and says so.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from .ledger import Ledger
from .limits import ProviderLimits
from .logbook import Component, Logbook
from .provider_errors import ProviderError, ProviderRefusedError, SubmissionInDoubtError
from .records import Generation, Submission, SubmissionState
from .video import VideoOrder, VideoProvider

PATIENCE_S: Final = 4.0
"""For an answer on its way when the job is told to end; after 5 s its process is killed."""


class Submitter:
    """Sends orders."""

    def __init__(self, ledger: Ledger, limits: ProviderLimits, log: Logbook, now_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self._limits = limits
        self._log = log
        self._now_ms = now_ms

    async def submit(self, generation: Generation, number: int, provider: VideoProvider) -> Submission:
        """The submission of this number as the provider has taken it, now or before.
        `ProviderError`; `SubmissionInDoubtError` where somebody died over it."""
        if (await self._ledger.submission(generation.id)).state is None:
            until_ms = await self._limits.enter(provider.name)
            if await self._ledger.begin_submission(generation.id, number):
                await see_through(self._send(generation, number, provider, until_ms))
        found = await self._ledger.submission(generation.id)
        if found.number == number and found.state is SubmissionState.TAKEN:
            return found
        if found.state is None:
            raise ProviderRefusedError(provider.name, "its generation has ended; it is not submitted any more")
        raise SubmissionInDoubtError(
            provider.name, "its worker ended while it was being submitted; it is not submitted again"
        )

    async def _send(self, generation: Generation, number: int, provider: VideoProvider, until_ms: int) -> None:
        order = VideoOrder(
            client_id=f"{generation.id}-{number}", prompt=generation.prompt, parameters=generation.parameters,
            model=generation.model,
        )  # fmt: skip
        begun_ms = self._now_ms()
        self._log.info(Component.PROVIDER, "Submitting", provider=provider.name, submission=number)
        try:
            self._limits.check(provider.name, until_ms)
            operation = await provider.submit(order)
        except SubmissionInDoubtError:
            raise
        except ProviderError as error:
            await self._ledger.close_submission(generation.id, number, SubmissionState.REFUSED)
            await self._limits.hear(provider.name, error)
            raise
        await self._ledger.take_submission(generation.id, number, operation)
        self._log.info(
            Component.PROVIDER, "Submitted", provider=provider.name, submission=number, operation=operation,
            duration=self._now_ms() - begun_ms,
        )  # fmt: skip


async def see_through(sending: Coroutine[Any, Any, None]) -> None:
    """Wait for it; and if the waiting is cancelled, give it the time to write down what the provider says."""
    task = asyncio.create_task(sending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=PATIENCE_S)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # it is seen: whoever has the job next meets what was written
        raise
