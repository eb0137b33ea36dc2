"""One queue inside a worker: claims its messages in time, keeps them in order until there is a slot, and gives them
back when the queue is paused. One claim at a time; verdicts that wait ride in the claim's commit. After an answer was
lost it states what it holds, so that the store takes back what nobody here knows of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from conveyor.model.events import ClaimFailed, Emit, LeasesReturned, QueueReloaded
from conveyor.model.message import CLAIM_MESSAGES_MAX, Lease
from conveyor.model.settings import ConsumerSettings, ConsumerType
from conveyor.queue.desk import Desk, Portion, Ran
from conveyor.queue.handler import Handler, Takes
from conveyor.queue.immediate import Line
from conveyor.queue.outcome import release, show_error
from conveyor.queue.pace import Pace
from conveyor.queue.settle import NO_SLOT, Settler
from conveyor.store.protocol import Store
from conveyor.store.records import Claimed, ClaimRequest, QueueInfo

PREFETCH_S: Final = 1.0
"""Messages for so long are kept at hand."""
CHECK_S: Final = 2.0
"""A consumer that need not claim looks after a pause or new settlements this often."""
RECONCILE_S: Final = 60.0
RECONCILE_S_MAX: Final = 900.0
"""A consumer states what it holds this often, also if it has no doubt; more rarely where that takes long."""
RECONCILE_REST: Final = 1_000
RECONCILE_AGAIN_S: Final = 5.0
"""The same after a doubt: the claim whose answer was lost may still have been on its way to the database."""
RETRY_S_FIRST: Final = 0.1
RETRY_S_MAX: Final = 5.0
OPENING_S_MIN: Final = 0.005
_NEVER: Final = -1


class Consumer:
    """Keeps a worker in messages of one queue."""

    def __init__(
        self, store: Store, owner: int, emit: Emit, settler: Settler, desk: Desk[Consumer], handler: Handler, *,
        weight: int = 1,
    ) -> None:  # fmt: skip
        self.handler = handler
        self.queue = handler.queue
        self.weight = weight
        self.settings: ConsumerSettings = handler.settings
        self.ready: deque[Portion] = deque()
        self.running = 0
        """Calls."""
        self.pace = Pace()
        self._store = store
        self._owner = owner
        self._clock = store.clock
        self._emit = emit
        self.settler = settler
        self._desk = desk
        self._version = _NEVER
        self._must_reload = True
        self._is_open = False
        self._claims = 0
        """Under way."""
        self.claiming = asyncio.Lock()
        """Held by a claim that is under way."""
        self.asked = 0
        """Calls that it may bring."""
        self._slots = 0
        """Of the queue's `max_concurrency`, as far as we know."""
        self._is_in_doubt = self._is_shaken = False
        """There was a doubt since the last statement."""
        self._reconcile_at = self._clock.monotonic() + RECONCILE_S
        self._is_stopping = False
        self._is_dry = False
        """The last claim found less than it asked for: wait to be woken."""
        self._target = 0
        self._hungry = asyncio.Event()
        self._wakes = 0
        self._claimed_at = self._clock.monotonic()
        self._retry_s = RETRY_S_FIRST
        self._tasks: list[asyncio.Task[None]] = []
        self._opening: asyncio.Task[None] | None = None
        self._suspects: asyncio.Task[None] | None = None
        self._owes_suspects = False
        """They waited when the store last answered."""
        self._alone: list[Portion] = []
        """Crash suspects, from their claim to the end of their calls."""
        self.line = Line(store, owner, self)

    def start(self) -> None:
        """Begin to claim."""
        self._tasks.append(asyncio.create_task(self._run()))

    async def stop(self) -> None:
        """Claim no more and give back what has not begun; a claim that is under way is ended in good order."""
        self._is_stopping = True
        self.release_ready()
        idle = () if self._claims else self._tasks
        for task in (*idle, self._opening):
            if task is not None:
                task.cancel()
        self._hungry.set()
        await self.line.close()
        pending = [task for task in (*self._tasks, self._opening, self._suspects) if task is not None]
        if pending:
            await asyncio.wait(pending)

    def abandon(self) -> None:
        """Give up whatever does not end."""
        for task in (*self._tasks, self._opening, self._suspects):
            if task is not None:
                task.cancel()

    def wake(self) -> None:
        """A claim may find something now."""
        self._wakes += 1
        self._is_dry = False
        self._hungry.set()

    def poll(self) -> None:
        """Once a second: whatever was missed is found now, also a pause and new settings."""
        if not self._is_open or (self.ready and self._clock.monotonic() - self._claimed_at >= CHECK_S):
            self._must_reload = True
        if self._clock.monotonic() >= self._reconcile_at:
            self._is_in_doubt = True
        self.wake()

    def doubt(self) -> None:
        """The store may hold more in our name than we know of."""
        self._is_in_doubt = self._is_shaken = True
        self._hungry.set()

    def take(self) -> Portion:
        """The leases of the next call, which begins now."""
        self.running += 1
        portion = self.ready.popleft()
        if len(self.ready) * 2 < self._target and not self._is_dry:
            self._hungry.set()
        return portion

    def end(self, slots: int, seconds: float) -> None:
        """A call is over, which took so long and held these slots."""
        self.running -= 1
        self.pace.count(seconds)
        if slots:
            self._give_back(slots)
            self._is_dry = False
        if not self.ready and not self._is_dry:
            self._hungry.set()

    def look(self) -> None:
        """There are free slots: perhaps it is time to claim."""
        if not self._is_dry and not self.ready:
            self._hungry.set()

    def release_ready(self) -> None:
        """Give back what has not begun."""
        while self.ready:
            self._release(self.ready.popleft())

    def forget_ready(self) -> None:
        """The leases are lost; nothing can be given back."""
        self.ready.clear()

    @property
    def batch_size(self) -> int:
        return self.settings.max_batch_size if self.handler.takes is Takes.BATCH else 1

    async def _run(self) -> None:
        while not self._is_stopping:
            if self._is_in_doubt:
                await self._reconcile()
            elif self._must_reload:
                await self._reload()
            elif self._is_open and not self._is_dry and (wanted := self._wanted_calls()) > 0:
                await self._claim(wanted)
            else:
                self._hungry.clear()
                await self._hungry.wait()

    def _wanted_calls(self) -> int:
        """For how many more calls to claim messages now."""
        free, waiting = max(0, self._desk.free_calls(self) - self.line.calls), len(self.ready)
        if self._takes_from_others():
            self._target = free
            return max(0, free - waiting)
        soon = int((free + self.running) * self.pace.rate() * PREFETCH_S)
        self._target = target = min(max(free, soon), max(1, CLAIM_MESSAGES_MAX // self.batch_size))
        return target - waiting if waiting * 2 < target else 0

    def _takes_from_others(self) -> bool:
        """Whether what waits here to be started takes a slot, a part of a rate or a turn that others may want."""
        settings = self.settings
        return settings.fair or any((settings.calls_max, settings.rate, settings.key_rate))

    async def _claim(self, calls: int) -> None:
        if self._owes_suspects and not self._runs_suspects:  # what room there is must not always go to others first
            running: set[asyncio.Task[None]] = set()
            await self._claim_suspects(running, self._desk.suspects_max)
            self._suspects = asyncio.create_task(self._run_suspects(running)) if running else None
        size, wakes = self.batch_size, self._wakes
        request = ClaimRequest(
            queue=self.queue, owner=self._owner, limit=calls * size, calls=calls, batch_size=size,
            batch_timeout_ms=self.settings.batch_wait_ms if size > 1 else 0,
        )  # fmt: skip
        self.asked = calls
        claimed = await self._ask(request)
        self.asked = 0
        if claimed is None:
            return
        self._is_dry = len(claimed.leases) < request.limit and wakes == self._wakes
        self._add(claimed, size)
        if claimed.version != self._version:
            await self._reload()
        if self._is_stopping or not self._is_open:
            self.release_ready()
            return
        self._desk.fill_soon()
        self._open_at(claimed.opens_at)
        if claimed.suspects and not self._runs_suspects:
            self._suspects = asyncio.create_task(self._run_suspects(set()))

    def _add(self, claimed: Claimed, size: int) -> None:
        self._claimed_at = self._clock.monotonic()
        self.ready.extend(self._cut(claimed, size))

    @property
    def spare_calls(self) -> int:
        """Calls that could start at once with what is sent now, if no claim brings others."""
        if self._is_stopping or not self._is_open or self._is_in_doubt:
            return 0
        return max(0, self._desk.free_calls(self) - len(self.ready))

    def flush_verdicts(self) -> None:
        """Write the verdicts that wait, with whatever is written next."""
        self.settler.flush_soon()

    def begin(self, claimed: Claimed, size: int) -> None:
        """What the transaction of a send has leased to us."""
        self._slots += claimed.calls
        self._add(claimed, size)
        if self._is_stopping or not self._is_open:
            self.release_ready()
            return
        if claimed.version != self._version:
            self._must_reload = True
            self._hungry.set()
        self._desk.fill_soon()

    async def _ask(self, request: ClaimRequest) -> Claimed | None:
        """The answer, or None after a pause if the store refuses."""
        self._claims += 1
        try:
            async with self.claiming:
                if self._is_stopping:
                    return None
                self.settler.flush_soon()
                # a task, so that it is submitted after the settlements that were just flushed, and with them
                claimed = await asyncio.create_task(self._store.claim(request))
        except Exception as error:  # noqa: BLE001  # a consumer outlives whatever its store is going through
            problem = error
        else:
            self._retry_s = RETRY_S_FIRST
            self._slots += claimed.calls
            self._owes_suspects = claimed.suspects
            return claimed
        finally:
            self._claims -= 1
        self.doubt()
        await self._pause_after(problem)
        return None

    def _cut(self, claimed: Claimed, size: int) -> list[Portion]:
        """The leases as calls; the first ones hold the slots that came with them."""
        leases, slots = claimed.leases, claimed.calls
        starts = range(0, len(leases), size)
        if slots > len(starts):
            self._give_back(slots - len(starts))
        return [(leases[start : start + size], 1 if number < slots else 0) for number, start in enumerate(starts)]

    async def _pause_after(self, error: Exception) -> None:
        self._emit(ClaimFailed(queue=self.queue, error=show_error(error), retry_s=self._retry_s))
        await self._clock.sleep(self._retry_s)
        self._retry_s = min(self._retry_s * 2, RETRY_S_MAX)

    async def _reconcile(self) -> None:
        """State what is held here: the store may hold more in our name, or less, where an answer was lost."""
        async with self.claiming, self.line.at_rest():
            began = self._clock.monotonic()
            try:
                await self.settler.keep_back(self.queue)
                held = [(lease.seq, lease.claim) for lease in self._held()]
                returned = await self._store.reconcile(self._owner, self.queue, held, calls=self._slots)
            except Exception as error:  # noqa: BLE001  # a consumer outlives whatever its store is going through
                problem = error
            else:
                now = self._clock.monotonic()
                pause_s = min(max(RECONCILE_S, RECONCILE_REST * (now - began)), RECONCILE_S_MAX)
                self._reconcile_at = now + (RECONCILE_AGAIN_S if self._is_shaken else pause_s)
                self._is_in_doubt = self._is_shaken = False
                if returned:
                    self._emit(LeasesReturned(queue=self.queue, messages=returned))
                return
            finally:
                self.settler.let_go(self.queue)
        await self._pause_after(problem)

    def _held(self) -> Iterator[Lease]:
        for leases, _ in (*self.ready, *self._alone):
            yield from leases
        yield from self._desk.leases_of(self.queue)
        yield from self.settler.leases_of(self.queue)

    def _give_back(self, slots: int) -> None:
        self._slots -= slots
        self.settler.give_back(self.queue, slots)

    async def _reload(self) -> None:
        """Take over what the store's row says now."""
        try:
            info = await self._store.get_queue(self.queue)
        except Exception as error:  # noqa: BLE001  # a consumer outlives whatever its store is going through
            await self._pause_after(error)
            return
        is_first, is_same = self._version == _NEVER, self._version == info.version
        self._must_reload = False
        self._version = info.version
        self._is_open = self._delivers_here(info)
        before, self.settings = self.settings, info.consumer or self.settings
        if not self._is_open or (self.settings.is_paced and before.dispatch is not self.settings.dispatch):
            self.release_ready()
        if not is_first and not is_same:
            self._emit(QueueReloaded(queue=self.queue, version=info.version, is_open=self._is_open))

    def _delivers_here(self, info: QueueInfo) -> bool:
        consumer = info.consumer
        return (
            not info.paused
            and consumer is not None
            and consumer.type is ConsumerType.WORKER
            and consumer.script == self.handler.settings.script
        )

    def _release(self, portion: Portion) -> None:
        leases, slots = portion
        for lease in leases:
            self.settler.add(release(lease), lease, NO_SLOT)
        if slots:
            self._give_back(slots)

    def _open_at(self, moment_ms: int | None) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if moment_ms is not None and self._is_dry:
            wait_s = max(OPENING_S_MIN, (moment_ms - self._clock.now_ms()) / 1000)
            self._opening = asyncio.create_task(self._wake_after(wait_s))

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self.wake()

    @property
    def _runs_suspects(self) -> bool:
        return self._suspects is not None and not self._suspects.done()

    async def _run_suspects(self, running: set[asyncio.Task[None]]) -> None:
        """Crash suspects, each alone in a child of its own, until there are no more."""
        try:
            while await self._claim_suspects(running, self._desk.suspects_max - len(running)) or running:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            for task in running:
                task.cancel()
            raise

    async def _claim_suspects(self, running: set[asyncio.Task[None]], count: int) -> bool:
        """Start as many as there are, up to `count`; whether there was one."""
        if count <= 0 or not self._is_open or self._is_stopping:
            return False
        request = ClaimRequest(queue=self.queue, owner=self._owner, limit=count, calls=count, suspects=True)
        claimed = await self._ask(request)
        if claimed is None:
            return False
        for number, lease in enumerate(claimed.leases):
            portion: Portion = ([lease], 1 if number < claimed.calls else 0)
            self._alone.append(portion)
            running.add(asyncio.create_task(self._run_suspect(portion)))
        return bool(claimed.leases)

    async def _run_suspect(self, portion: Portion) -> None:
        leases, slots = portion
        is_wanted = self._is_open and not self._is_stopping
        if not is_wanted or await self._desk.run_alone(self, leases) is Ran.NOT:
            self._release(portion)
        elif slots:
            self._give_back(slots)
        self._alone.remove(portion)
