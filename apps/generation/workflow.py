"""From a prompt to a video in the bucket: submit, look each 5 s, fetch, store. Each attempt of the job goes on where
the one before was left.

    start -> submit (a step, once) -> look, sleep, look ... (300 s at most) -> download and store (a step) -> complete

Between two looks the job is put off, so that it holds no worker and a dead worker costs it nothing. Where jobs go one
after another (`cron`, `alarm`) it waits in its place instead, since to the next one a job that is put off is over.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from conveyor import Bucket, JobContext, RateLimited, Snooze

from . import clock
from .desk import Withdraw
from .errors import GenerationError
from .ledger import Ledger, Turn
from .limits import ProviderLimits
from .logbook import Component, Logbook
from .provider_errors import (
    ProviderError,
    ProviderLimitedError,
    ProviderRefusedError,
    SubmissionInDoubtError,
)
from .records import (
    IN_DOUBT,
    Failure,
    Generation,
    GenerationJob,
    ProviderName,
    State,
    Submission,
    SubmissionState,
    VideoResult,
    video_key,
)
from .relay import Hand
from .settings import DispatchMode, Settings
from .status import RATE_LIMIT_HITS, Operated, Statistics
from .submitting import Submitter
from .video import Done, Failed, Progress, Running, VideoProvider

SUBMITTED: Final = 0.1
"""How far it is once the provider has it; the looks lead on to `MADE`."""
MADE: Final = 0.9
IN_PLACE: Final = (DispatchMode.CRON, DispatchMode.ALARM)
WITHDRAWN_S: Final = 1
LIMIT_S_MAX: Final = 120.0
"""The longest that a job holds its place because its provider is asked too often."""


class Clock(Protocol):
    """The store's."""

    def now_ms(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The video in the bucket: what the last step keeps."""

    key: str
    size: int
    content_type: str


class OperationFailedError(ProviderError):
    """The provider took it, and nothing came of it; another submission may do better."""


class TimedOutError(ProviderRefusedError):
    """There is no video after all the time that it has."""


class EndedError(GenerationError):
    """It had failed before this delivery of its job; the text says why."""


class Workflow:
    """What the job does."""

    def __init__(
        self, settings: Settings, ledger: Ledger, statistics: Statistics, log: Logbook, *,
        providers: Mapping[ProviderName, VideoProvider], bucket: Bucket, hand: Hand, time: Callable[[], Clock],
        limits: ProviderLimits, mode: Operated, withdraw: Withdraw,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._ledger = ledger
        self._statistics = statistics
        self._log = log
        self._providers = providers
        self._bucket = bucket
        self._hand = hand
        self._clock = time
        self._mode = mode
        self._withdraw = withdraw
        self._submitter = Submitter(ledger, limits, log, lambda: time().now_ms())

    async def run(self, job: GenerationJob, context: JobContext) -> VideoResult | None:
        """The whole of it; None for one that is not there any more. `ProviderError`, `RateLimited`; of one that has
        ended before, and was not begun again, `EndedError` or `Snooze`."""
        with self._log.about(generationId=job.generation_id, userId=job.user_id):
            return await self._run(job.generation_id, context)

    async def _run(self, id: str, context: JobContext) -> VideoResult | None:
        turn = await self._ledger.start(id, run=context.redrives, attempt=context.attempt, job_id=context.id)
        if turn is None:
            self._log.info(Component.GENERATION, "Nothing to do")
            return None
        if turn.is_new:
            self._log.info(
                Component.GENERATION, "Starting generation", attempt=context.attempt,
                provider=turn.generation.provider, model=turn.generation.model, jobId=context.id,
            )  # fmt: skip
        await self._hand(id)
        if turn.generation.state.is_final:
            return await self._end_as(turn.generation, context)
        try:
            return await self._make(turn.generation, context)
        except ProviderLimitedError as error:
            await self._limited(turn.generation, context, error)
            raise RateLimited(error.after_s, scope="key", reason=str(error)) from error
        except ProviderError as error:
            await self._failed(turn, context, error)
            raise

    async def _end_as(self, ended: Generation, context: JobContext) -> VideoResult | None:
        """The job's end is lost, and its generation's is not: whoever had it before died between the two."""
        self._log.info(Component.GENERATION, "Nothing to do", status=ended.state)
        if ended.state is State.CANCELLED:
            await self._withdraw(context.id)
            raise Snooze(WITHDRAWN_S)  # it is taken out as it is put off
        if ended.error is not None:
            raise EndedError(ended.error.message)
        return ended.result

    async def _make(self, generation: Generation, context: JobContext) -> VideoResult | None:
        provider = self._providers.get(generation.provider)
        if provider is None:
            raise ProviderRefusedError(generation.provider, "it is not set up here")
        taken = await self._submit(generation, provider, context)
        await self._watch(generation, taken, provider, context)
        context.log("Storing the video")
        await self._move(generation, context, MADE, "Storing the video")
        stored = await context.step(f"store-{taken.number}", self._store, generation, taken.operation, type=Stored)
        now_ms = self._clock().now_ms()
        took_ms = now_ms - clock.read_iso(generation.started_at or clock.iso(now_ms))
        ended = await self._ledger.complete(
            generation.id,
            VideoResult(
                video_url=f"{self._settings.public_url}/api/generations/{generation.id}/video", key=stored.key,
                size=stored.size, content_type=stored.content_type, duration=generation.parameters.duration,
                processing_time=max(0, took_ms),
            ),
        )  # fmt: skip
        self._log.info(
            Component.GENERATION, "Generation completed", status=ended.state,
            duration=took_ms, attempt=context.attempt,
        )  # fmt: skip
        await self._hand(generation.id)
        return ended.result

    async def _submit(self, generation: Generation, provider: VideoProvider, context: JobContext) -> Submission:
        """In this try, which may have to wait: in its place, where the next one must not overtake it."""
        while True:
            present = await self._ledger.submission(generation.id)
            if present.state is None:
                context.log("Asking the provider")
                await self._move(generation, context, 0.0, "Asking the provider")
            try:
                name, submit = f"submit-{present.number}", self._submitter.submit
                return await context.step(name, submit, generation, present.number, provider, type=Submission)
            except ProviderLimitedError as error:
                if error.after_s > LIMIT_S_MAX or not await self._in_place():
                    raise
                await self._limited(generation, context, error)
                await self._clock().sleep(error.after_s)

    async def _watch(
        self, generation: Generation, taken: Submission, provider: VideoProvider, context: JobContext
    ) -> None:
        """Until it is done. The time it has goes on while no worker is there; a last look is had in any case."""
        poll_ms, timeout_ms = self._settings.poll_s * 1000, self._settings.timeout_s * 1000
        looked = 0
        while True:
            since_ms = self._clock().now_ms() - taken.taken_ms
            turn = max(looked, int(since_ms // poll_ms))
            if turn:
                if await self._look(generation, taken, provider, context, since_ms / 1000):
                    return
                if since_ms >= timeout_ms:
                    raise TimedOutError(provider.name, f"no video after {self._settings.timeout_s} s", code="timeout")
            wait_ms = min((turn + 1) * poll_ms, max(timeout_ms, since_ms)) - since_ms
            await self._pause(f"look-{taken.number}-{turn + 1}", wait_ms / 1000, context)
            looked = turn + 1

    async def _look(
        self, generation: Generation, taken: Submission, provider: VideoProvider, context: JobContext, since_s: float
    ) -> bool:
        """Whether it is done. A look that fails is no failure of what it looks at. `OperationFailedError`."""
        try:
            found: Progress = await provider.poll(taken.operation)
        except ProviderRefusedError:
            raise
        except ProviderError as error:
            if isinstance(error, ProviderLimitedError):
                await self._statistics.count(RATE_LIMIT_HITS)
            self._log.warning(Component.PROVIDER, "Poll failed", error=str(error))
            return False
        match found:
            case Done():
                return True
            case Failed():
                await self._ledger.close_submission(generation.id, taken.number, SubmissionState.FAILED)
                kind = ProviderRefusedError if found.is_permanent else OperationFailedError
                raise kind(provider.name, found.message, code=found.code)
            case Running():
                share = found.progress
                if share is None:
                    share = since_s / (self._settings.expected_s + since_s)
                await self._move(generation, context, SUBMITTED + (MADE - SUBMITTED) * share, "The video is being made")
                self._log.debug(
                    Component.PROVIDER, "Still running", operation=taken.operation,
                    duration=round(since_s * 1000),
                )  # fmt: skip
                return False

    async def _in_place(self) -> bool:
        return await self._mode() in IN_PLACE

    async def _pause(self, name: str, seconds: float, context: JobContext) -> None:
        if await self._in_place():
            await self._clock().sleep(seconds)
        else:
            await context.sleep(name, seconds)

    async def _store(self, generation: Generation, operation: str) -> Stored:
        """From the provider to the bucket, piece by piece; done twice, it is the same object."""
        provider, key = self._providers[generation.provider], video_key(generation.id)
        begun_ms = self._clock().now_ms()
        self._log.info(Component.STORAGE, "Uploading video", key=key)
        async with provider.download(operation) as media:
            info = await self._bucket.put(key, media.chunks, content_type=media.mime_type)
        self._log.info(
            Component.STORAGE, "Video uploaded", key=key, size=info.size,
            duration=self._clock().now_ms() - begun_ms,
        )  # fmt: skip
        return Stored(key=key, size=info.size, content_type=media.mime_type)

    async def _failed(self, turn: Turn, context: JobContext, error: ProviderError) -> None:
        """Write down why, and tell it if no other try comes."""
        context.log(str(error), "warning")
        is_permanent = isinstance(error, (ProviderRefusedError, SubmissionInDoubtError))
        failure, id = Failure(code=_code(error), message=str(error), is_permanent=is_permanent), turn.generation.id
        if is_permanent or context.attempt >= self._settings.tries:
            is_so, say = await self._ledger.fail(id, failure, turn=turn.number), self._log.error
        else:
            is_so, say = await self._ledger.retry(id, failure, turn=turn.number), self._log.warning
        if is_so:  # and nobody else has it, or has ended it, by now
            say(
                Component.GENERATION, "Generation failed", attempt=context.attempt,
                willRetry=say == self._log.warning, code=failure.code, error=failure.message,
            )  # fmt: skip
        await self._hand(id)

    async def _limited(self, generation: Generation, context: JobContext, error: ProviderLimitedError) -> None:
        """An order waits: for its turn, which is nothing unusual, or since the provider wants it so."""
        await self._statistics.count(RATE_LIMIT_HITS)
        if error.status is None:
            self._log.info(Component.PROVIDER, "Waiting for a turn", provider=error.provider, after=error.after_s)
        else:
            self._log.warning(Component.PROVIDER, "Rate limited", after=error.after_s, error=str(error))
        await self._move(generation, context, 0.0, "Waiting for its turn at the provider")

    async def _move(self, generation: Generation, context: JobContext, fraction: float, note: str) -> None:
        await self._ledger.move(generation.id, fraction, note)
        context.progress(fraction, note)


def _code(error: ProviderError) -> str:
    if isinstance(error, SubmissionInDoubtError):
        return IN_DOUBT
    return error.code.lower() or "provider_error"
