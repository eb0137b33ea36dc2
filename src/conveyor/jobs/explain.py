"""Why is this job not running? The first reason that holds, in words and as a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from conveyor.model.dispatch import Dispatch, ticks_of
from conveyor.model.ids import MessageId
from conveyor.model.job import FINAL, JobAttempt, JobState
from conveyor.model.job_errors import JobNotFoundError
from conveyor.model.message import Peeked
from conveyor.model.settings import ConsumerSettings, ConsumerType
from conveyor.model.step import StepKind, StepRecord
from conveyor.store.admission import rings_at
from conveyor.store.jobs import AHEAD_MAX, JobFound, Obstacles
from conveyor.store.protocol import Store
from conveyor.store.records import QueueInfo
from conveyor.store.steps import open_steps

ATTEMPTS_MAX: Final = 1_000
_SUSPECT: Final = 1
_BEHIND_KEY: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A reason: `word` for programs, `text` for people."""

    word: str
    text: str


async def explain(store: Store, id: MessageId) -> Explanation:
    """`JobNotFoundError`."""
    found = await store.jobs.find([id])
    if not found:
        raise JobNotFoundError(id.hex())
    job, now = found[0], store.clock.now_ms()
    state = job.state(now)
    if state in FINAL:
        return _ended(job, state)
    assert job.message is not None, "what is not final has a message"
    if job.message.leased:
        return _running(job, now)
    info = await store.get_queue(job.message.queue)
    owners = [each for each in await store.list_owners() if each.lease_until > now]
    has_workers = any(info.consumer is not None and each.info.may_run(info.consumer.script) for each in owners)
    obstacles = await store.jobs.obstacles(id)
    parked = open_steps(await store.steps.read(id), now) if job.message.ready_at > now else []
    if parked and not info.paused and job.message.ready_at >= (parked[0].until or 0):
        return _parked(id, parked, now)
    attempts = await store.jobs.attempts(id, limit=ATTEMPTS_MAX)
    last = attempts[-1] if attempts else None
    return _waiting(job, job.message, info, obstacles, last, now, has_workers=has_workers)


def _ended(job: JobFound, state: JobState) -> Explanation:
    record, dead = job.record, None if job.message is None else job.message.dead
    if state is JobState.SUCCEEDED:
        assert record is not None, "it succeeded by its record"
        return Explanation(word="succeeded", text=f"it succeeded {_at(record.ended_at)}, at attempt {record.attempts}")
    if state is JobState.CANCELLED:
        when = "" if record is None or record.ended_at is None else f" {_at(record.ended_at)}"
        return Explanation(word="cancelled", text=f"it was cancelled{when}")
    error = (record.error if record is not None else None) or (dead.last_error if dead is not None else None)
    reason = dead.reason if dead is not None else state.value
    attempts = f" after {record.attempts} attempts" if record is not None and record.attempts > 1 else ""
    where = f"; it lies in `{job.message.queue}`" if job.message is not None else ""
    text = f"it is {state}{attempts}, for the reason `{reason}`: {error or 'no error is known'}{where}"
    return Explanation(word=state.value, text=text)


def _running(job: JobFound, now: int) -> Explanation:
    record = job.record
    if record is not None and record.cancel_at is not None:
        text = "it runs, and is to end: it was cancelled, and has not heard of it yet, or does not obey"
        return Explanation(word="cancelling", text=text)
    if record is not None and record.ended_at is None and record.started_at:
        seconds = (now - record.started_at) / 1000
        text = f"it runs, on {record.worker}, for {seconds:.0f} s, at attempt {record.attempts}"
        return Explanation(word="running", text=text)
    return Explanation(word="running", text="a worker has it, and has begun or is about to")


def _waiting(
    job: JobFound, message: Peeked, info: QueueInfo, found: Obstacles, last: JobAttempt | None, now: int, *,
    has_workers: bool,
) -> Explanation:  # fmt: skip
    """In the order in which a person would want to know."""
    consumer = info.consumer
    if info.paused:
        text = f"queue `{info.name}` is paused: `conveyor queues resume-delivery {info.name}`"
        return Explanation(word="paused", text=text)
    if consumer is None or consumer.type is not ConsumerType.WORKER:
        text = f"queue `{info.name}` has no consumer that is a worker: start the app that declares `{job.name}`"
        return Explanation(word="no_consumer", text=text)
    if message.ready_at > now:
        return _later(message, last, found, now)
    if not has_workers:
        text = f"no worker of app `{consumer.script}` is up: `conveyor work MODULE:APP`"
        return Explanation(word="no_workers", text=text)
    return _held(message, info, consumer, found, now) or _in_line(found)


def _later(message: Peeked, last: JobAttempt | None, found: Obstacles, now: int) -> Explanation:
    when = _at(message.ready_at)
    wait = f"in {(message.ready_at - now) / 1000:.0f} s"
    if last is not None and last.state is JobState.SCHEDULED:
        return Explanation(word="put_off", text=f"it was put off until {when}, {wait}: {last.error}")
    if last is not None and message.attempts:
        text = f"attempt {message.attempts} failed with {last.error or 'no error'}; the next begins {when}, {wait}"
        return Explanation(word="retrying", text=text)
    if message.attempts == 0 and found.releases == 0:
        return Explanation(word="scheduled", text=f"it is scheduled for {when}, {wait}")
    text = f"it was put off until {when}, {wait}"
    return Explanation(word="put_off", text=text)


def _parked(id: MessageId, steps: Sequence[StepRecord], now: int) -> Explanation:
    first = steps[0]
    when = f"until {_at(first.until)}, for {((first.until or 0) - now) / 1000:.0f} s more"
    if first.kind is StepKind.SLEEP:
        return Explanation(word="sleeping", text=f"it sleeps {when}: `{first.name}`")
    names = ", ".join(f"`{each.name}`" for each in steps if each.kind is StepKind.WAIT)
    text = f"it waits for event {names}, {when}: `conveyor jobs send-event {id.hex()} {first.name}`"
    return Explanation(word="waiting_for_event", text=text)


def _held(
    message: Peeked, info: QueueInfo, consumer: ConsumerSettings, found: Obstacles, now: int
) -> Explanation | None:
    if found.throttled_until > now:
        text = f"queue `{info.name}` rests until {_at(found.throttled_until)}: a handler was rate limited"
        return Explanation(word="throttled", text=text)
    if found.shelf == _SUSPECT:
        text = "it is suspected of killing its worker, and runs alone, after others that are"
        return Explanation(word="crash_suspect", text=text)
    if consumer.key_limit is not None and found.key_leased >= consumer.key_limit and message.key is not None:
        text = f"{found.key_leased} of key `{message.key}` run already, and no more may"
        return Explanation(word="key_concurrency", text=text)
    if found.key_opens_at is not None and found.key_opens_at > now:
        text = f"key `{message.key}` rests until {_at(found.key_opens_at)}: its rate is spent, or it was rate limited"
        return Explanation(word="key_rate", text=text)
    if found.shelf == _BEHIND_KEY:
        return Explanation(word="key_order", text=f"it waits behind an earlier one of key `{message.key}`")
    if consumer.is_paced and found.slots_held >= (consumer.calls_max or 1):
        count = "one" if consumer.calls_max == 1 else f"{consumer.calls_max}"
        text = f"by `{consumer.dispatch}` {count} of queue `{info.name}` may run at a time, and so it is now"
        return Explanation(word="dispatch", text=text)
    if consumer.max_concurrency is not None and found.slots_held >= consumer.max_concurrency:
        text = f"all {consumer.max_concurrency} slots of queue `{info.name}` (`max_concurrency`) are taken"
        return Explanation(word="max_concurrency", text=text)
    if consumer.rate is not None and found.rate_opens_at is not None and found.rate_opens_at > now:
        text = f"the rate of queue `{info.name}`, {consumer.rate}, is used up for the moment"
        return Explanation(word="rate", text=text)
    return _held_by_mode(message, info, consumer, found, now)


def _held_by_mode(
    message: Peeked, info: QueueInfo, consumer: ConsumerSettings, found: Obstacles, now: int
) -> Explanation | None:
    """What is due and not spoken for goes within a second: it is for the next tick, if it is still here."""
    if consumer.dispatch is Dispatch.CRON:
        tick = ticks_of(consumer.dispatch_cron).next_after(now)
        going = f"{consumer.dispatch_messages} at each tick of `{consumer.dispatch_cron}`"
        before = f"; {found.ahead} are before it" if found.ahead else ""
        text = f"it waits for the tick at {_at(tick)}: queue `{info.name}` goes by `cron`, {going}{before}"
        return Explanation(word="dispatch", text=text)
    opens_at = rings_at(consumer, now, message.ready_at)
    if opens_at is None:
        return None
    text = f"it waits for its alarm at {_at(opens_at)}: queue `{info.name}` goes by `{consumer.dispatch}`"
    return Explanation(word="dispatch", text=text)


def _in_line(found: Obstacles) -> Explanation:
    if found.ahead:
        most = "at least " if found.ahead >= AHEAD_MAX else ""
        text = f"it waits in line: {most}{found.ahead} are before it, and all workers are busy"
        return Explanation(word="in_line", text=text)
    text = "it is next; if it does not begin within seconds, workers are busy elsewhere, or do not take this queue"
    return Explanation(word="next", text=text)


def _at(ms: int | None) -> str:
    if ms is None:
        return "at a time unknown"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
