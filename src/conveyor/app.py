"""Conveyor: where queues, consumers and schedules are declared, and the one place where rooms are wired together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from conveyor.alarms import Alarms
from conveyor.audit.act import acting_as
from conveyor.bindings import Bindings
from conveyor.blobs.bucket import Bucket
from conveyor.cron.schedules import Schedules
from conveyor.declaring import Declaration, check_distinct, check_worker, declare, queues_of
from conveyor.jobs.groups import Chaining, Grouping, Groups
from conveyor.jobs.room import Jobs
from conveyor.kv import KV
from conveyor.limiter import Limiter
from conveyor.model.clock import Clock
from conveyor.model.duration import Duration
from conveyor.model.errors import InvalidSettingError
from conveyor.model.events import Emit, Event
from conveyor.model.ids import IdSource
from conveyor.model.settings import Default, QueueSettings, check_name, read_consumer
from conveyor.model.verdict import Backoff
from conveyor.portal import Portal
from conveyor.queue.handler import Handler, declarer
from conveyor.queue.immediate import Here
from conveyor.queue.producer import Queue
from conveyor.retention import Declared
from conveyor.secrets import Secrets
from conveyor.store.chosen import choose_retention, choose_stores
from conveyor.store.protocol import Store
from conveyor.store.records import QueueInfo
from conveyor.store.urls import make_stores
from conveyor.wrangler import read_worker

if TYPE_CHECKING:
    from conveyor.testing.harness import Harness, Mode
    from conveyor.webhooks.room import Webhooks

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

Hook = Callable[[], Awaitable[None]]


class Conveyor:
    """An application: its name, its store, and all that it declares.

    The store comes from `url`, else from `CONVEYOR_URL`, else from `pyproject.toml`, else it is `sqlite:///conveyor.db`.
    `stores` are others by name, and `routes` say which queues live there: patterns of names, the first match wins.
    `buckets` are the URLs of those that do not lie on local files, by name or binding. `encrypted` are patterns of the
    queues whose payloads lie encrypted in the store.
    `wrangler` names a Worker's file (None: none), and `environment` one of its `env`s; if not, `CONVEYOR_WRANGLER` and
    `CLOUDFLARE_ENV` do. Nothing is opened until `async with app:`, a worker, or the first send.
    """

    target: str | None = None
    """How a child process finds this app: `MODULE:VARIABLE`."""
    http: Any = None
    """The application's own ASGI app, served by `conveyor serve`."""
    on_stop: Hook | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _opener: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
    _users = 0

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        stores: Mapping[str, str] | None = None,
        routes: Mapping[str, str] | None = None,
        buckets: Mapping[str, str] | None = None,
        encrypted: Sequence[str] | None = None,
        wrangler: str | os.PathLike[str] | Default | None = Default.WRANGLER,
        environment: str | None = None,
        clock: Clock | None = None,
        emit: Emit | None = None,
    ) -> None:
        check_name("app", name)
        self.name = name
        self.routing = choose_stores(url, stores, routes)
        self.worker = read_worker(wrangler, environment)
        self.vars: Mapping[str, Any] = self.worker.vars
        """Those of the wrangler file."""
        self._clock = clock
        self.emit: Emit = emit or (lambda _event: None)
        self._store = make_stores(self.routing, clock=clock, emit=self._tell)
        self._ids = IdSource(self._store.clock)
        self._handlers, self._handles = dict[str, Handler](), dict[str, Queue]()
        self._queues: dict[str, QueueSettings] = queues_of(self.worker)
        self.bindings = Bindings(self.routing, self.worker, self._store, self.ensure_open, name, buckets)
        self.sealer: Final = self.bindings.make_sealer(encrypted, self.handlers)
        self.secrets: Secrets = self.bindings.secrets
        """What `wrangler secret put` wrote for this app: `app.secrets["NAME"]`."""
        self.jobs: Final = Jobs(self)
        """What `job` declares."""
        self.job: Final = self.jobs.job
        self.job_queue: Final = self.jobs.declare_queue
        self.alarm = Alarms(name, lambda: self._store, self._ids, self.ensure_open, random.Random())
        """The alarm of a name: `app.alarm("cart-42")`."""
        self.alarm_handler = self.alarm.handler
        self._schedules = Schedules(name, lambda: self._store, self._ids, self.ensure_open, self._tell, random.Random())
        self.cron: Final = self._schedules.cron
        self.trigger: Final = self._schedules.trigger
        self.scheduler: Final = self._schedules.scheduler
        self.cron_queue: Final = self._schedules.queue
        """Where the app's schedules send their messages."""
        self.retention: Final = Declared(choose_retention())
        """Says for how long is kept what has ended: `app.retention(jobs="7d")`."""
        self._declaration = Declaration(self._declare)
        self._opening, self._closing = list[Hook](), list[Hook]()
        self._portal = Portal(self)
        self.here: Final = Here()
        """The queues on which this process works."""

    # Declarations

    def consumer(
        self,
        queue: str,
        *,
        max_batch_size: int | Default = Default.MAX_BATCH_SIZE,
        max_batch_timeout: Duration | Default = Default.MAX_BATCH_TIMEOUT,
        max_retries: int | Default = Default.MAX_RETRIES,
        retry_delay: Duration | Backoff | Default = Default.RETRY_DELAY,
        max_concurrency: int | None | Default = Default.MAX_CONCURRENCY,
        dead_letter_queue: str | None | Default = Default.DEAD_LETTER_QUEUE,
        alert_queue: str | None = None,
        timeout: Duration = "15m",
        ordered: bool = False,
        key_concurrency: int | None = None,
        rate: str | None = None,
        key_rate: str | None = None,
        fair: bool = False,
        key_weights: Mapping[str, int] | None = None,
        ageing: Duration | None = "1m",
        dispatch: str = "queue",
        dispatch_cron: str = "* * * * *",
        dispatch_messages: int = 1,
        run_in: str | None = None,
    ) -> Callable[[F], F]:
        """Declare the function that handles a queue's messages: it takes a `Message[T]` or a `Batch[T]`.

        Without `dead_letter_queue` it is `<queue>-dlq`; None deletes what failed for good. `run_in="process"` runs it
        in a child process that may be killed at its `timeout`. `dispatch` is "queue", "immediate", "cron" or "alarm"
        (docs/how-to/dispatch.md). What a wrangler file says of the queue stands where nothing is said here. Raises
        `InvalidSettingError`, also where the two differ, and `CronSyntaxError`.
        """
        options = self.worker.options_of(
            queue, max_batch_size=max_batch_size, max_batch_timeout=max_batch_timeout, max_retries=max_retries,
            retry_delay=retry_delay, max_concurrency=max_concurrency, dead_letter_queue=dead_letter_queue,
        )  # fmt: skip
        settings = read_consumer(
            script=self.name, alert_queue=alert_queue, timeout=timeout, ordered=ordered, fair=fair,
            key_concurrency=key_concurrency, rate=rate, key_rate=key_rate, key_weights=key_weights, ageing=ageing,
            dispatch=dispatch, dispatch_cron=dispatch_cron, dispatch_messages=dispatch_messages, **options,
        )  # fmt: skip
        return declarer(self._handlers, queue, settings, run_in, self.sealer)

    def declare_queue(self, name: str, settings: QueueSettings | None = None) -> Queue:
        """A queue that this app sends to and somebody else consumes; it is made when the app opens, if need be."""
        check_name("queue", name)
        (settings or QueueSettings()).check()
        self._queues[name] = settings or QueueSettings()
        return self.queue(name)

    def mount(self, asgi: Any, *, on_stop: Hook | None = None) -> None:
        """The application's own HTTP: `conveyor serve` answers with it beside `/healthz` and `/readyz`. When the server
        is to stop it awaits `on_stop` first, and then what still runs: long streams end here."""
        self.http, self.on_stop = asgi, on_stop

    def on_open(self, hook: Hook) -> Hook:
        """Called in each process after the store is open."""
        self._opening.append(hook)
        return hook

    def on_close(self, hook: Hook) -> Hook:
        """Called in each process before the store closes."""
        self._closing.append(hook)
        return hook

    # Use

    def acting_as(self, person: str) -> contextlib.AbstractContextManager[None]:
        """Until the end of the block, what this task changes it changes for this person, and the audit trail says so:
        `with app.acting_as(user.email): await job.cancel()`."""
        return acting_as(person)

    def queue(self, name: str) -> Queue:
        """The way into a queue, declared here or elsewhere."""
        if self._loop is not None and self._loop.is_closed():
            self._renew_handles()
        if name not in self._handles:
            self._handles[name] = Queue(self._store, self._ids, self._settings_of, name, self.here, self.sealer)
        return self._handles[name]

    def kv(self, namespace: str) -> KV:
        """A namespace of named values, by its name or by its binding in a wrangler file."""
        return self.bindings.kv(namespace)

    def bucket(self, name: str) -> Bucket:
        """A bucket of objects, by its name or by its binding in a wrangler file."""
        return self.bindings.bucket(name)

    def limiter(self, name: str, rate: str) -> Limiter:
        """A rate, as in `"10/m"`, that handlers ask before they do something. `InvalidSettingError`."""
        return self.bindings.limiter(name, rate)

    @functools.cached_property
    def groups(self) -> Groups:
        """What `group` and `chain` start."""
        return Groups(self, self.jobs, self._ids)

    @property
    def group(self) -> Grouping:
        """A new group of jobs and messages: `app.group("nightly", on_complete=report)`."""
        return self.groups.make

    @property
    def chain(self) -> Chaining:
        """Start jobs that follow each other: `await app.chain(fetch.bind(url), parse)`."""
        return self.groups.chain

    @functools.cached_property
    def webhooks(self) -> Webhooks:
        """What the app tells others, and what it takes from them."""
        from conveyor.webhooks.room import Webhooks

        return Webhooks(
            self.name, lambda: self._store, self._ids, self.ensure_open, self.bindings.folder, self.declare_queue,
            emit=self._tell, chance=random.Random(), sealer=self.sealer,
        )  # fmt: skip

    async def pause(self, queue: str) -> None:
        """Deliver nothing from this queue; sends go on, and running handlers finish."""
        await self.ensure_open()
        await self._store.pause(queue)

    async def resume(self, queue: str) -> None:
        """Deliver again."""
        await self.ensure_open()
        await self._store.resume(queue)

    async def info(self, queue: str) -> QueueInfo:
        """A queue as it operates now. `QueueNotFoundError`."""
        await self.ensure_open()
        return await self._store.get_queue(queue)

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine of this app from code that is not async: `app.run_sync(app.queue("q").send(body))`."""
        return self._portal.run(coroutine)

    # Life

    async def __aenter__(self) -> Self:
        await self.ensure_open()
        self._users += 1
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._users -= 1
        if self._users == 0:
            await self.close()

    @contextlib.asynccontextmanager
    async def lifespan(self, _asgi: object = None) -> AsyncIterator[None]:
        """For an ASGI application: open while it serves."""
        async with self:
            yield

    async def ensure_open(self) -> None:
        """Open the store in this event loop and declare everything, once."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            hint = "from other threads use `app.run_sync(...)`"
            raise InvalidSettingError("app", self.name, "is open in another event loop", hint=hint)
        if self._opener is None or self._opener[0] is not loop:
            self._opener = loop, asyncio.Lock()
        async with self._opener[1]:
            if self._loop is not loop:
                await self._open(loop)

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        await self._store.open()
        self._ids.follow(self._store.clock)
        try:
            await self._declaration.make()
            self._loop = loop
            for hook in self._opening:
                await hook()
        except BaseException:
            self._loop = None
            await self._close_store()
            raise

    async def _declare(self) -> asyncio.Task[None] | None:
        handlers = self.handlers()
        self.sealer.check()
        check_worker(self.worker, self._handlers, self._schedules.declared)
        scheduler, kept = self._schedules.open(), self.retention.wanted
        await self.bindings.refresh()
        return await declare(self._store, self._queues, handlers, scheduler, self._tell, kept)

    async def close(self) -> None:
        """Close the store; the next use opens it again."""
        if self._loop is None:
            return
        try:
            for hook in reversed(self._closing):
                await hook()
        finally:
            self._loop = None
            self.jobs.close()
            self._renew_handles()
            await self._close_store()

    async def _close_store(self) -> None:
        self._declaration.leave()
        await self._store.close()

    def testing(self, mode: Mode = "manual") -> Harness:
        """For tests: `async with app.testing() as kit` (or `with`, in a test that is not async), in memory and on a
        clock that the kit moves. What is enqueued waits for `kit.drain()`; with `"inline"` it runs at once."""
        kit: Harness = importlib.import_module("conveyor.testing.harness").Harness(self, mode)  # a room above
        return kit

    # For workers, servers and children

    @property
    def url(self) -> str:
        """The store's, or the home store's of several."""
        return self.routing.url

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which the app is open."""
        return None if self._loop is None or self._loop.is_closed() else self._loop

    @property
    def store(self) -> Store:
        """The store, open or not."""
        return self._store

    def handlers(self) -> Sequence[Handler]:
        """All consumers, those of jobs, alarms and schedules included."""
        sending = self.webhooks.handlers() if "webhooks" in vars(self) else ()
        rooms = (self.jobs.handlers(), self.alarm.handlers(), sending, self._schedules.handlers())
        declared = [*self._handlers.values(), *itertools.chain.from_iterable(rooms)]
        check_distinct(declared)
        return declared

    def use_store(self, store: Store) -> Store:
        """Work on another store from now on, handles that were given out included; the former one. For tests."""
        former, self._store = self._store, store
        self._schedules.forget_store()
        self._renew_handles()
        return former

    def _renew_handles(self) -> None:
        """What was given out must look again whether the store is open, and which it is."""
        for name, handle in self._handles.items():
            Queue.__init__(handle, self._store, self._ids, self._settings_of, name, self.here, self.sealer)
        self.bindings.renew(self._store)

    async def open_once(self) -> None:
        """Open the store, declare everything, and close it: forks of this process will find that done."""
        try:
            await self._store.open()
            await self._declaration.make()
        finally:
            await self._close_store()

    def another_store(self) -> Store:
        """A second, independent way to the same store, for another thread."""
        return make_stores(self.routing, clock=self._clock)

    async def work(self, *, queues: Sequence[str] | None = None, concurrency: int = 100) -> None:
        """Run workers and schedules in this process and event loop, until cancelled."""
        from conveyor.working import work_app

        async with self:
            await work_app(self, queues, concurrency)

    def _tell(self, event: Event) -> None:
        self.emit(event)

    async def _settings_of(self, queue: str) -> QueueSettings:
        await self.ensure_open()
        return (await self._store.get_queue(queue)).settings
