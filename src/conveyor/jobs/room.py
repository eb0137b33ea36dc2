"""The jobs of an app: declared here, sent from here, and handed to workers as one handler for each queue."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, Protocol, TypeVar

from msgspec.structs import replace

from conveyor.jobs.beats import Beats, Home
from conveyor.jobs.declared import Declared, Upcast, read_job
from conveyor.jobs.ends import deadline_of
from conveyor.jobs.function import Declare, JobFunction, OnConflict, Options, UniqueBy, as_declare
from conveyor.jobs.job import Job, JobInfo, read_job_id
from conveyor.jobs.looking import JobErrors, ask_for, list_errors, list_jobs, replay
from conveyor.jobs.member import MemberJob
from conveyor.jobs.policy import USUAL, RetryPolicy, Rule
from conveyor.jobs.reports import Reports
from conveyor.jobs.runner import Runner
from conveyor.jobs.waiting import Waiting
from conveyor.jobs.watching import make_token, revoke_tokens
from conveyor.model.duration import Duration
from conveyor.model.errors import InvalidSettingError
from conveyor.model.ids import MessageId
from conveyor.model.job import VERSION_HEADER, JobState
from conveyor.model.message import Lease, Level, Sent
from conveyor.model.settings import ConsumerSettings, read_consumer
from conveyor.model.verdict import Action, Judged, Settlement
from conveyor.queue.delivery import Message
from conveyor.queue.encoding import BodyReader
from conveyor.queue.handler import Handler, RunIn, Takes
from conveyor.queue.producer import Queue
from conveyor.store.jobs import job_name, read_headers
from conveyor.store.protocol import Store

P = TypeVar("P")
R = TypeVar("R")

HEADERS_KEPT: Final = 1_000
"""Headers of which the job is remembered."""


class App(Home, Protocol):
    """What the jobs need of their app."""

    def queue(self, name: str) -> Queue: ...


class Jobs:
    """What an app's jobs are, and who runs them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lines: dict[str, Line] = {}
        self._settings: dict[str, ConsumerSettings] = {}
        self._names: dict[str, Declared] = {}
        self._finding: list[Callable[[], None]] = []
        self._beats = Beats(app)
        self._reports = Reports(app)
        self._waiting = Waiting()
        self._chance = Random().random  # noqa: S311 spreads retries, guards nothing

    def job(
        self,
        *,
        queue: str | None = None,
        name: str | None = None,
        max_retries: int = 3,
        backoff: Rule = USUAL,
        errors: Mapping[type[BaseException], Rule] | None = None,
        timeout: Duration = "15m",
        result_ttl: Duration = "1d",
        priority: Level | None = None,
        unique: UniqueBy | None = None,
        unique_for: Duration | None = None,
        on_conflict: OnConflict = "existing",
        expires_in: Duration | None = None,
        deadline: Duration | None = None,
        version: int = 1,
        upcasts: Mapping[int, Upcast] | None = None,
        run_in: str | None = None,
    ) -> Declare:
        """Declare a job: a function of one payload and, if it wants, a `JobContext`. Raises `InvalidSettingError`.

        Without `queue` it is `<app>-jobs`. `backoff` follows every error, `errors` those of some classes: a `Backoff`,
        a duration, a function of the failed attempt's number and its error, or None for what is permanent. `unique`
        makes a key of a payload. By its `deadline` after it was enqueued a job has ended. `version` is the payload's;
        `upcasts` lead from each older one to the next.
        """
        policy = RetryPolicy(backoff, errors or {})
        options = Options(
            priority=priority, unique_for=unique_for, on_conflict=on_conflict, expires_in=expires_in, deadline=deadline
        )

        def declare(function: Callable[..., Any]) -> JobFunction[Any, Any]:
            declared = read_job(
                function, name=name, queue=queue or f"{self._app.name}-jobs", policy=policy, max_retries=max_retries,
                timeout=timeout, result_ttl=result_ttl, version=version, upcasts=upcasts or {}, run_in=run_in,
                localns=sys._getframe(1).f_locals,  # types that are local to the place of the declaration
                sealer=self._app.sealer,
            )  # fmt: skip
            self._add(declared)
            return JobFunction(function, declared, self, options, unique)

        return as_declare(declare)

    def also_in(self, queue: str, job: JobFunction[P, R]) -> JobFunction[P, R]:
        """The same job, by the same name, in one more queue of this app: workers of either run it."""
        declared = dataclasses.replace(self._names[job.name], queue=queue)
        self._line(queue).add(Runner(declared, self._app, self._beats, self._reports, self._chance))
        return job.declared_as(declared)

    def on_declare(self, hook: Callable[[], None]) -> None:
        """Called once, before the jobs are read for the first time: for those whose declarations are found late."""
        self._finding.append(hook)

    def declare_queue(
        self,
        name: str,
        *,
        max_concurrency: int | None = None,
        ordered: bool = False,
        key_concurrency: int | None = None,
        rate: str | None = None,
        key_rate: str | None = None,
        fair: bool = False,
        key_weights: Mapping[str, int] | None = None,
        dead_letter_queue: str | None = None,
        alert_queue: str | None = None,
        ageing: Duration | None = "1m",
        dispatch: str = "queue",
        dispatch_cron: str = "* * * * *",
        dispatch_messages: int = 1,
    ) -> None:
        """The terms of a queue in which jobs of this app lie, as for `app.consumer`. Raises `InvalidSettingError`.

        Without `dead_letter_queue` it is `<queue>-dlq`: jobs always have one, so that each can be tried again.
        """
        if name in self._settings:
            hint = "say all of it in one `app.job_queue`"
            raise InvalidSettingError("queue", name, "is declared for jobs twice in this app", hint=hint)
        self._settings[name] = read_consumer(
            script=self._app.name, max_batch_size=1, max_batch_timeout=0, max_retries=0, retry_delay=0,
            max_concurrency=max_concurrency, dead_letter_queue=dead_letter_queue or f"{name}-dlq",
            alert_queue=alert_queue, timeout="15m", ordered=ordered, key_concurrency=key_concurrency, rate=rate,
            key_rate=key_rate, fair=fair, key_weights=key_weights, ageing=ageing, dispatch=dispatch,
            dispatch_cron=dispatch_cron, dispatch_messages=dispatch_messages,
        )  # fmt: skip

    def _add(self, declared: Declared) -> None:
        if declared.name in self._names:
            hint = "give one of them another: `@app.job(name=...)`"
            raise InvalidSettingError("job", declared.name, "is declared twice in this app", hint=hint)
        runner = Runner(declared, self._app, self._beats, self._reports, self._chance)
        self._line(declared.queue).add(runner)
        self._names[declared.name] = declared

    def _line(self, queue: str) -> Line:
        line = self._lines.get(queue)
        if line is None:
            line = self._lines[queue] = Line(queue)
        return line

    def get(self, id: str, function: JobFunction[Any, Any] | None = None) -> Job[Any]:
        """A handle on a job of which only the id is known. `JobNotFoundError` if that is no id."""
        reader = BodyReader("", Any, self._app.sealer) if function is None else self._names[function.name].result
        id = read_job_id(id).hex()
        store, name, queue = self._app.store, "", ""
        if function is not None:
            store, name, queue = store.at(function.queue), function.name, function.queue
        declared = None if function is None else self._names[function.name]
        return Job(store, self._waiting, reader, id, name, queue, declared=declared)

    async def list(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        state: JobState | str | Iterable[JobState | str] | None = None,
        error: str | None = None,
        limit: int = 100,
    ) -> Sequence[JobInfo]:
        """Jobs that fit, newest first, without the failed attempts in their timelines; `error` is a fingerprint."""
        await self._app.ensure_open()
        return await list_jobs(self._app.store, ask_for(name, queue, state, error), limit)

    async def errors(self, *, name: str | None = None, limit: int = 100) -> Sequence[JobErrors]:
        """What went wrong with jobs that have not succeeded, by kind of error, the most frequent first."""
        await self._app.ensure_open()
        return await list_errors(self._app.store, name, limit)

    async def retry(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        state: JobState | str | Iterable[JobState | str] | None = None,
        error: str | None = None,
        rate: str | None = None,
        limit: int = 1_000,
    ) -> int:
        """Try again those that fit and failed for good, newest first, no faster than `rate` ("10/s"); how many."""
        await self._app.ensure_open()
        return await replay(self._app.store, ask_for(name, queue, state, error), limit=limit, rate=rate)

    async def send_event(self, id: str, name: str, payload: Any = None) -> None:
        """As `Job.send_event`, for a job of which only the id is known."""
        await self._app.ensure_open()
        await self.get(id).send_event(name, payload)

    async def token(self, job: Job[Any] | str, *, expires_in: Duration = "1h") -> str:
        """For an end user: whoever has it may watch this job over HTTP until then (30 days at most), and do nothing
        else. `InvalidDurationError`, `JobNotFoundError` if that is no id."""
        await self._app.ensure_open()
        id = job.id if isinstance(job, Job) else self.get(job).id
        return await make_token(self._app.store, MessageId(bytes.fromhex(id)), expires_in)

    async def revoke_tokens(self) -> None:
        """Every token that `token` has made, of all jobs: their streams are closed within 5 s."""
        await self._app.ensure_open()
        await revoke_tokens(self._app.store)

    def handlers(self) -> Sequence[Handler]:
        """One for each queue of jobs."""
        while self._finding:
            self._finding.pop(0)()
        for queue in self._settings.keys() - self._lines.keys():
            hint = f'`@app.job(queue="{queue}")`, or leave out its `app.job_queue`'
            raise InvalidSettingError("queue", queue, "is declared for jobs, and no job lies in it", hint=hint)
        usual = ConsumerSettings(script=self._app.name, max_batch_timeout_ms=0)
        return [line.handler(self._settings.get(line.queue, usual)) for line in self._lines.values()]

    def close(self) -> None:
        """The app is about to close."""
        self._beats.close()
        self._reports.close()
        self._waiting.close()

    def use_waiting(self, waiting: Waiting) -> Waiting:
        """Wait for ends in another way from now on; the former one. For tests."""
        former, self._waiting = self._waiting, waiting
        return former

    def queue(self, name: str) -> Queue:
        return self._app.queue(name)

    async def open_store(self, queue: str) -> Store:
        await self._app.ensure_open()
        return self._app.store.at(queue)

    def member(self, declared: Declared, id: MessageId) -> Job[Any]:
        """A handle on a member of a group, which may not be sent yet."""
        store = self._app.store.at(declared.queue)
        return MemberJob(store, self._waiting, declared.result, id.hex(), declared.name, declared.queue)

    def handle(self, declared: Declared, sent: Sent) -> Job[Any]:
        store = self._app.store.at(declared.queue)
        return Job(
            store, self._waiting, declared.result, sent.id.hex(), declared.name, declared.queue, deduped=sent.deduped,
            declared=declared,
        )  # fmt: skip


class Line:
    """The jobs of one queue; `Parts` of its handler."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._runners: dict[str, Runner] = {}
        self._handlers: dict[str, Handler] = {}
        self._by_headers: dict[bytes | None, Handler] = {}
        self._operating: dict[str, tuple[ConsumerSettings, ConsumerSettings]] = {}
        self._made: Handler | None = None

    def add(self, runner: Runner) -> None:
        declared = runner.declared
        self._runners[declared.name] = runner
        if len({each.declared.run_in is RunIn.PROCESS for each in self._runners.values()}) > 1:
            raise InvalidSettingError(
                "run_in", declared.run_in, f"jobs in processes and others cannot share the queue `{self.queue}`",
                hint="give one of them a queue of its own",
            )  # fmt: skip
        self._made = None

    def handler(self, settings: ConsumerSettings) -> Handler:
        """Of the whole queue."""
        if self._made is None:
            self._made = self._make(settings)
        return self._made

    def _make(self, settings: ConsumerSettings) -> Handler:
        declared = [each.declared for each in self._runners.values()]
        settings = replace(
            settings, max_batch_size=1, tracks_jobs=True, max_retries=max(each.max_retries for each in declared),
            timeout_ms=max(each.timeout_ms for each in declared),
            dead_letter_queue=settings.dead_letter_queue or f"{self.queue}-dlq",
        )  # fmt: skip
        settings.check()
        self._by_headers.clear()
        for name, runner in self._runners.items():
            each = runner.declared
            self._handlers[name] = Handler(
                queue=self.queue, function=runner.run_async if each.is_async else runner.run_sync, takes=Takes.MESSAGE,
                reader=BodyReader(self.queue, Any, each.payload.sealer) if each.upcasts else each.payload,
                run_in=each.run_in, is_async=each.is_async, settings=settings, parts=self,
            )  # fmt: skip
        in_processes = all(each.run_in is RunIn.PROCESS for each in declared)
        run_in = RunIn.PROCESS if in_processes else RunIn.LOOP
        return Handler(
            queue=self.queue, function=_put_off, takes=Takes.MESSAGE, reader=BodyReader(self.queue, Any), run_in=run_in,
            is_async=True, settings=settings, parts=self,
        )  # fmt: skip

    def pick(self, lease: Lease) -> Handler:
        found = self._by_headers.get(lease.headers)
        if found is None:
            found = self._find(lease)
            if len(self._by_headers) >= HEADERS_KEPT:
                self._by_headers.clear()
            self._by_headers[lease.headers] = found
        return found

    def _find(self, lease: Lease) -> Handler:
        name = job_name(lease.headers)
        runner = None if name is None else self._runners.get(name)
        if runner is None or name is None:
            return self._unknown(f"no job `{name}` is declared in this app")
        version = read_headers(lease.headers).get(VERSION_HEADER, 1)
        known = runner.declared.version
        if not isinstance(version, int) or version > known:
            return self._unknown(f"its payload is of version {version}, and `{name}` knows {known}")
        if version < min(runner.declared.upcasts, default=known):
            return self._unknown(f"its payload is of version {version}, and `{name}` has no upcast from there")
        return self._handlers[name]

    def _unknown(self, why: str) -> Handler:
        runner = next(iter(self._runners.values()))

        async def put_it_off(message: Message[Any]) -> Judged:
            lease = message._lease  # noqa: SLF001  # what it is put off by counts its releases
            returns = await runner.count_returns(lease) if lease.releases else 0
            return runner.put_off(lease, why, returns=returns)

        assert self._made is not None, "it is picked from"
        return dataclasses.replace(self._made, function=put_it_off, run_in=RunIn.LOOP)

    def settings_over(self, handler: Handler, operating: ConsumerSettings, lease: Lease) -> ConsumerSettings:
        runner = self._runner_of(handler)
        if runner is None:
            return operating
        name = runner.declared.name
        known = self._operating.get(name)
        if known is None or known[0] is not operating:
            own = replace(operating, timeout_ms=runner.declared.timeout_ms, retry_delay=runner.declared.policy.backoff)
            known = self._operating[name] = operating, own
        deadline = deadline_of(lease)
        if deadline is None:
            return known[1]
        return replace(known[1], timeout_ms=max(1, min(known[1].timeout_ms, deadline - runner.now_ms())))

    def close(self, handler: Handler, lease: Lease, settlement: Settlement, running_ms: int) -> Settlement:
        runner = self._runner_of(handler)
        if runner is None or settlement.outcome is not None:
            return settlement
        if settlement.action is Action.RELEASE and settlement.delay_ms is None:  # it has hardly begun
            return settlement
        return runner.close(lease, settlement, running_ms)

    def _runner_of(self, handler: Handler) -> Runner | None:
        owner = getattr(handler.function, "__self__", None)
        return owner if isinstance(owner, Runner) else None


async def _put_off(message: Message[Any]) -> Judged:
    raise AssertionError(f"{message!r} was not picked")
