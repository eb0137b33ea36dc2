"""Machines of the invented world: the real supervisor over invented processes, each of which runs the real worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

from conveyor.cron.scheduler import Scheduler
from conveyor.model.events import Emit
from conveyor.queue.board import Board
from conveyor.queue.frames import Answer, ChildRequest, Crashed
from conveyor.queue.handler import Handler
from conveyor.queue.outcome import Delivery
from conveyor.queue.worker import Stop, Worker
from conveyor.sim.loop import Life, SimProcess
from conveyor.store.protocol import Store
from conveyor.store.records import Ending, Evidence, OwnerInfo, OwnerRow
from conveyor.supervisor.process import ChildProcess, Exit
from conveyor.supervisor.supervisor import Plan as SupervisorPlan
from conveyor.supervisor.supervisor import Supervisor

BOARD_SLOTS: Final = 64
CHILDREN: Final = 2
"""Calls at once that a worker runs in children."""


class HandlerDiedError(BaseException):
    """What runs this handler call is killed by it."""


class World(Protocol):
    """What a machine needs of its world."""

    chance: Random
    emit: Emit
    concurrency: int
    processes: int
    grace_s: float

    def process(self, name: str) -> SimProcess: ...

    def store(self, process: SimProcess) -> Store: ...

    def handlers(self, owner: int, process: SimProcess, store: Store, *, in_child: bool = False) -> list[Handler]: ...

    def scheduler(self, store: Store) -> Scheduler | None: ...

    def lives(self, number: int) -> bool: ...


class Children:
    """Somewhere to run calls whose death harms nobody; cancelling one kills it."""

    def __init__(self, handlers: Sequence[Handler], chance: Random) -> None:
        self.size = CHILDREN
        self._handlers = {each.queue: each for each in handlers}
        self._chance = chance

    async def run(self, request: ChildRequest) -> Answer:
        handler = self._handlers[request.queue]
        delivery = Delivery(handler, request.leases)
        returned: object = None
        error: BaseException | None = None
        try:
            returned = await handler.function(delivery.argument)
        except (HandlerDiedError, KeyError):
            return Crashed("killed by signal 9")
        except Exception as caught:  # noqa: BLE001 a failed attempt
            error = caught
        return delivery.judge(returned, error, request.settings, lambda: request.chance)

    async def close(self) -> None: ...


class Child(ChildProcess):
    """A worker process, as its supervisor holds it."""

    def __init__(self, world: World, process: SimProcess, board: Board, owner: int, started_at: float) -> None:
        self.board: Board | None = board
        self.owner = owner
        self.started_at = started_at
        self.is_ready = self.is_done = self.is_cut = self.is_bereft = False
        self.is_silent = True
        self.stuck: list[int] = []
        self.has_news = False
        self.process = process
        self.exit: Exit | None = None
        self.worker: Worker | None = None
        self._world = world
        process.on_death.append(self._died)

    def start(self) -> None:
        self.process.spawn(self._live())

    async def _live(self) -> None:
        """What `supervisor/worker.py` and `working.py` do."""
        world, process = self._world, self.process
        store = world.store(process)
        handlers = world.handlers(self.owner, process, store)
        children = Children(world.handlers(self.owner, process, store, in_child=True), world.chance)
        assert self.board is not None
        self.worker = Worker(
            store, self.owner, handlers, board=self.board, emit=world.emit, random=world.chance, isolation=children,
            concurrency=world.concurrency, grace_s=world.grace_s, on_stuck=self._say_stuck,
        )  # fmt: skip
        self.is_ready = self.has_news = True
        scheduler = world.scheduler(store)
        firing = None if scheduler is None else asyncio.create_task(_fire(scheduler, store))
        await self.worker.run()
        if firing is not None:
            firing.cancel()
        self.is_done = True
        self.exit = Exit(code=0)
        process.kill()

    def _say_stuck(self, seqs: frozenset[int]) -> None:
        self.stuck.extend(sorted(seqs))
        self.has_news = True

    def _died(self) -> None:
        self.exit = self.exit or Exit(signal=9)

    @property
    def pid(self) -> int:
        return self.process.number

    def look(self) -> Exit | None:
        return Exit(stopped=True) if self.process.life is Life.STOPPED else self.exit

    def hear(self) -> None: ...

    def terminate(self) -> None:
        if self.worker is not None:
            self.process.call_soon(self.worker.stop, Stop.GRACEFULLY)
        else:
            self.process.kill()

    def kill(self) -> None:
        self.process.kill()

    def cut(self) -> None:
        self.is_cut = True
        self.process.kill()

    def wait(self) -> None: ...

    def close(self) -> None:
        self.process.kill()
        self.close_board()

    def close_board(self) -> None:
        if self.board is not None:
            self.board.close()
            self.board = None

    def fileno(self) -> int:
        return -1


async def _fire(scheduler: Scheduler, store: Store) -> None:
    """As `working.py` does it."""
    while True:
        try:
            await scheduler.declare()
            await scheduler.run()
        except Exception:  # noqa: BLE001 schedules outlive whatever the store is going through
            await store.clock.sleep(1.0)


class Keeper(Supervisor):
    """The real supervisor; only what touches the operating system is invented."""

    def __init__(self, world: World, name: str, process: SimProcess, store: Store) -> None:
        plan = SupervisorPlan(app="shop", worker=(), processes=world.processes, grace_s=world.grace_s)
        super().__init__(store, plan, emit=world.emit, chance=world.chance)
        self._machine = name
        self._world = world
        self._process = process
        self.children: list[Child] = []
        """Of all times."""

    @property
    def living(self) -> list[Child]:
        return [child for child in self.children if child.process.life is not Life.DEAD]

    async def _start_worker(self) -> ChildProcess:
        info = OwnerInfo(app="shop", host=self._machine, pid=0, supervisor_pid=self._process.number)
        owner = await self._store.register_owner(info)
        process = self._world.process(f"{self._process.name}w{owner}")
        child = Child(self._world, process, Board.create(BOARD_SLOTS), owner, self._store.clock.monotonic())
        process.on_death.append(lambda: self._process.call_soon(self._changed.set))
        self._process.on_death.append(process.kill)  # a worker ends with its supervisor
        self.children.append(child)
        child.start()
        return child

    async def _wait_for_change(self, timeout_s: float | None) -> None:
        """A worker that becomes ready or stuck says so; here it is looked for."""
        await super()._wait_for_change(1.0 if timeout_s is None else min(1.0, timeout_s))
        for child in self.living:
            if child.has_news:
                child.has_news = False
                self._hear(child)

    async def _reap_orphans(self) -> None:
        mine = {worker.owner for worker in self._workers}
        rows = await self._store.list_owners()
        orphans = {row.owner for row in rows if row.owner not in mine and self._is_orphan(row)}
        for owner in sorted(orphans & self._orphans):
            await self._store.reap_owner(owner, Evidence(ending=Ending.LOST, detail="its supervisor died"))
        self._orphans = orphans

    def _is_orphan(self, row: OwnerRow) -> bool:
        return row.info.host == self._machine and not self._world.lives(row.info.supervisor_pid)


class Machine:
    """Where a supervisor runs, and is started again when it dies."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.keeper: Keeper | None = None
        self.process: SimProcess | None = None
        self._starts = 0

    def start(self) -> None:
        self._starts += 1
        self.process = process = self._world.process(f"{self.name}.{self._starts}")
        self.keeper = keeper = Keeper(self._world, self.name, process, self._world.store(process))
        process.spawn(self._run(keeper, process))

    async def _run(self, keeper: Keeper, process: SimProcess) -> None:
        await keeper.run()
        process.kill()

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.life is not Life.DEAD

    def close(self) -> None:
        """Give back what the boards hold of the real world."""
        for child in [] if self.keeper is None else self.keeper.children:
            child.close_board()
