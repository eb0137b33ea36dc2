"""One seed: builds the world, lets it live through its faults, then asks that everything comes to its end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final

import msgspec

from conveyor.cron.schedule import CronRun, Declared, Misfire, Overlap
from conveyor.cron.scheduler import Scheduler, make_cron_handler
from conveyor.model.cron_expression import CronExpression
from conveyor.model.events import Emit
from conveyor.queue.handler import Handler
from conveyor.queue.producer import Queue
from conveyor.sim.cards import Card
from conveyor.sim.errands import ERRANDS, Customer, Office, judge_jobs
from conveyor.sim.faults import FaultyStore, Switchboard, Weather, at_once
from conveyor.sim.fleet import CHILDREN, Machine
from conveyor.sim.judge import Judge
from conveyor.sim.loop import Life, SimClock, SimLoop, SimProcess
from conveyor.sim.plan import CRON_QUEUE, SCRIPT, Backend, Feature, Plan, QueuePlan, make_plan
from conveyor.sim.shop import Clerk, Client, Operator, Order, SimIds
from conveyor.store.memory import MemoryStore
from conveyor.store.protocol import Store
from conveyor.store.sqlite.inline import InlineStore

RAM: Final = "/dev/shm"  # noqa: S108 a folder of one's own is made in it, where there is one
PATIENCE_S: Final = 90.0
"""Without the end of a message or call, after the last fault: then something is stuck."""
DRAIN_S_MAX: Final = 3_000.0
PROBE_S: Final = 2.5
"""Poll and a second (I13), and what the invented store takes."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a seed."""

    seed: int
    digest: str
    violations: list[str]
    messages: int
    calls: int
    events: int
    steps: int
    life_s: float
    features: list[str]


class SimWorld:
    """Everything there is, for one seed."""

    def __init__(self, plan: Plan, traces: Callable[[str], object] | None) -> None:
        self.plan = plan
        self.chance = Random(f"world {plan.seed}")
        self.loop = SimLoop(Random(f"steps {plan.seed}"))
        self.clock = SimClock(self.loop)
        self.over = asyncio.Event()
        self.judge = Judge(self.clock, traces=traces, on_fail=self.over.set)
        has = plan.features.__contains__
        self.weather = Weather(
            Random(f"weather {plan.seed}"), plan.fault_rate,
            crashes=has(Feature.KILLS), deaf=self.chance.choice((0.2, 1.0)) if has(Feature.DEAF) else 0.0,
        )  # fmt: skip
        self.switchboard = Switchboard(self.weather)
        self.outside = contextvars.copy_context()
        self._folder = tempfile.TemporaryDirectory(prefix="conveyor-sim-", dir=RAM if Path(RAM).is_dir() else None)
        self._memory = MemoryStore(self.clock)
        self._connections: list[Store] = []
        self.inner = self._connect()
        self.ids = SimIds(self.clock)
        self.emit: Emit = lambda _event: None
        self.concurrency = plan.concurrency
        self.processes = plan.processes
        self.grace_s = self.chance.choice((0.5, 5.0))
        self.machines = [Machine(self, f"m{number}") for number in range(plan.machines)]
        self.everyone: list[SimProcess] = []
        self._declared = self._schedules()
        self._jobs_chance = Random(f"errands {plan.seed}")
        self.judge.unheard |= {CRON_QUEUE, ERRANDS}
        self.loop.set_exception_handler(self._escaped)

    # What machines need

    def process(self, name: str) -> SimProcess:
        process = SimProcess(self.loop, name, len(self.everyone) + 1)
        self.everyone.append(process)
        return process

    def lives(self, number: int) -> bool:
        return self.everyone[number - 1].life is not Life.DEAD

    def _connect(self) -> Store:
        """A way to the store for one more process; in memory there is but one."""
        if self.plan.backend is Backend.MEMORY:
            return self._memory
        store = InlineStore(Path(self._folder.name) / "sim.db", clock=self.clock)
        self._connections.append(store)
        return store

    def _open(self, store: Store) -> Store:
        self.outside.run(at_once, store.open())
        store.subscribe(self.switchboard.wake)
        return store

    def store(self, process: SimProcess) -> Any:
        inner = self.inner if self.plan.backend is Backend.MEMORY else self._open(self._connect())
        return FaultyStore(inner, process, self.weather, self.switchboard, self.judge, self.outside)

    def handlers(self, owner: int, process: SimProcess, store: Store, *, in_child: bool = False) -> list[Handler]:
        clerk = Clerk(owner, process, self.clock, self.weather, self.judge, self.chance)
        found = [clerk.handler(each, in_child=in_child) for each in self.plan.queues]
        if self._declared:
            found.append(make_cron_handler(store, SCRIPT, CRON_QUEUE, _nothing, self._declared, self.emit))
        if Feature.JOBS in self.plan.features:
            found += self._office(store, process, owner).handlers()
        return found

    def _office(self, store: Store, process: SimProcess, owner: int = 0) -> Office:
        told = (process, self.judge, self.weather, self._jobs_chance, owner)
        return Office(store, self.ids, *told)

    def scheduler(self, store: Store) -> Scheduler | None:
        if not self._declared:
            return None
        declared = list(self._declared.values())
        return Scheduler(store, self.ids, SCRIPT, CRON_QUEUE, declared, emit=self.emit, chance=self.chance)

    def _schedules(self) -> dict[str, Declared]:
        if Feature.CRON not in self.plan.features:
            return {}

        async def run(_run: CronRun) -> None:
            await self.clock.sleep(self.chance.choice((0.0, 0.5)))

        misfire, overlap = self.chance.choice(list(Misfire)), self.chance.choice(list(Overlap))
        each = Declared(
            name="minutely", function=run, expression=CronExpression.parse("* * * * *"), misfire=misfire,
            overlap=overlap, jitter_ms=self.chance.choice((0, 2_000)), max_retries=0,
        )  # fmt: skip
        return {each.name: each}

    def _escaped(self, _loop: object, context: dict[str, Any]) -> None:
        """An exception that nobody caught is a bug, too."""
        self.judge.fail(f"{context.get('message')}: {context.get('exception')!r}")

    # A life

    async def live(self) -> None:
        await self._found()
        people = self._people()
        troubles = [asyncio.ensure_future(work()) for work in self._troubles()]
        await self._until_over(self.plan.life_s)
        for task in troubles:
            task.cancel()
        for person in people:
            person.kill()
        if not self.over.is_set():
            await self._heal()
            await self._drain()
        if not self.over.is_set():
            await self._audit()
            await self._probe()

    async def _found(self) -> None:
        """Queues, consumers, machines."""
        self._open(self.inner)
        founder = self.process("founder")
        handlers = self.handlers(0, founder, self.inner)
        for queue in self.plan.queues:
            await self._do("create_queue", queue.name, queue.settings)
        for handler in handlers:
            await self._do("declare_consumer", handler.queue, handler.settings)
        for machine in self.machines:
            machine.start()

    async def _do(self, verb: str, *arguments: Any) -> Any:
        """The world's own word to the store, which nothing disturbs."""
        answer = self.outside.run(at_once, getattr(self.inner, verb)(*arguments))
        self.judge.saw(self.everyone[0], verb, arguments, {}, answer)
        return answer

    def _people(self) -> list[SimProcess]:
        people = []
        for number in range(self.plan.clients):
            process = self.process(f"client{number}")
            client = Client(self.plan, self.store(process), self.judge, self.chance, self.ids, process.name)
            process.spawn(client.live())
            people.append(process)
        if Feature.JOBS in self.plan.features:
            process = self.process("customer")
            store = self.store(process)
            office = self._office(store, process)
            customer = Customer(office, store, self.judge, self._jobs_chance, process.name)
            process.spawn(customer.live(self.plan.orders, self.plan.life_s))
            people.append(process)
        operator = self.process("operator")
        operator.spawn(Operator(self.plan, self.store(operator), self.chance).live())
        return [*people, operator]

    def _troubles(self) -> list[Callable[[], Any]]:
        wanted = {
            Feature.KILLS: self._kill,
            Feature.STOPS: self._stop,
            Feature.ROLLS: self._roll,
            Feature.FAULTS: self._darken,
        }
        return [self._mend, *(work for feature, work in wanted.items() if feature in self.plan.features)]

    async def _until_over(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    async def _kill(self) -> None:
        while True:
            await self.clock.sleep(self.chance.uniform(0.5, 12))
            victims = self._workers()
            if self.chance.random() < 0.2:
                victims = [machine.process for machine in self.machines if machine.process is not None]
            if victims:
                victim = self.chance.choice(victims)
                self.judge.note("WORLD", f"kills {victim.name}")
                victim.kill()

    async def _stop(self) -> None:
        await asyncio.gather(*(self._stop_parts(machine) for machine in self.machines[1:]))  # one sees it

    async def _stop_parts(self, machine: Machine) -> None:
        """A worker, a supervisor, or a whole machine stands still, perhaps for longer than a lease."""
        lease_s = self.plan.lease_ms / 1000
        while True:
            await self.clock.sleep(self.chance.uniform(0.5, 5))
            if machine.process is None or machine.keeper is None:
                continue
            workers = [child.process for child in machine.keeper.living]
            everyone = [machine.process, *workers]
            victims = self.chance.choice((everyone, everyone, everyone[:1], workers[:1]))
            self.judge.note("WORLD", f"stops {' '.join(each.name for each in victims)}")
            for each in victims:
                each.stop()
            await self.clock.sleep(lease_s * self.chance.choice((0.1, 0.5, 1.0, 1.1, 1.2, 1.5)))
            for each in victims:
                each.go_on()

    async def _roll(self) -> None:
        while True:
            await self.clock.sleep(self.chance.uniform(3, 15))
            machine = self.chance.choice(self.machines)
            if machine.keeper is not None and machine.process is not None:
                self.judge.note("WORLD", f"restarts {machine.name}")
                machine.process.call_soon(machine.keeper.stop)

    async def _darken(self) -> None:
        """The store is away for a while, for all."""
        while True:
            await self.clock.sleep(self.chance.uniform(5, 30))
            self.weather.is_down = True
            self.judge.note("WORLD", "the store is down")
            await self.clock.sleep(self.chance.choice((0.3, 3, 20)))
            self.weather.is_down = False

    async def _mend(self) -> None:
        """A machine that has lost its supervisor gets a new one."""
        while True:
            await self.clock.sleep(self.chance.choice((0.2, 2, 10)))
            self._start_machines()

    def _start_machines(self) -> None:
        for machine in self.machines:
            if not machine.is_up:
                machine.close()
                machine.start()

    def _workers(self) -> list[SimProcess]:
        keepers = [machine.keeper for machine in self.machines if machine.keeper is not None]
        return [child.process for keeper in keepers for child in keeper.living]

    # Its end

    async def _heal(self) -> None:
        self.weather.clear_up()
        for process in self.everyone:
            process.go_on()
        self._start_machines()
        for queue in self.plan.queues:
            await self._do("resume", queue.name)
        self._mending = asyncio.ensure_future(self._mend())

    async def _drain(self) -> None:
        """Liveness: nothing is left but dead letters."""
        begun_at = moved_at = self.clock.monotonic()
        before = (-1, -1)
        while not self.over.is_set():
            await self.clock.sleep(1)
            left = self._left()
            if not left:
                return
            now, progress = self.clock.monotonic(), (len(left), len(self.judge.ended))
            if progress != before:
                moved_at, before = now, progress
            if now - moved_at > PATIENCE_S or now - begun_at > DRAIN_S_MAX:
                names = [f"{self.judge.name(card)} owner {card.owner}" for card in left[:5]]
                self.judge.fail(f"liveness: {len(left)} messages do not end: {names}")

    def _left(self) -> list[Card]:
        now = self.clock.now_ms()
        return [card for queue in self._work_queues() for card in self.judge.live(queue) if not card.is_past(now)]

    def _work_queues(self) -> list[str]:
        jobs = [ERRANDS] if Feature.JOBS in self.plan.features else []
        return [each.name for each in self.plan.queues] + ([CRON_QUEUE] if self._declared else []) + jobs

    async def _audit(self) -> None:
        found = {name: at_once(self.inner.peek(name, limit=100_000)) for name in self.judge.queues}
        self.judge.audit(found)
        errands = [card for card in self.judge.cards.values() if ERRANDS in (card.queue, card.origin)]
        if errands:
            jobs = at_once(self.inner.jobs.find([card.id for card in errands]))
            judge_jobs(self.judge, jobs, errands, self.clock.now_ms())

    async def _probe(self) -> None:
        """I13: with all slots free, a message starts within poll + 1 s, as many at once as may run."""
        if Feature.DEAF in self.plan.features:
            self.weather.deaf = 1.0
        await self.clock.sleep(12)  # restarts and reloads come to their end
        prober = self.process("prober")
        for each in self.plan.queues:
            await self._probe_queue(each, prober)

    async def _probe_queue(self, plan: QueuePlan, prober: SimProcess) -> None:
        others = len(self.plan.queues) - 1 + bool(self._declared) + (Feature.JOBS in self.plan.features)
        calls = min(plan.consumer.max_concurrency or 1, max(1, self.concurrency - others))
        if plan.in_child:
            calls = min(calls, CHILDREN)
        size, patience_s = 1, PROBE_S
        if plan.takes_batches:
            size, patience_s = plan.consumer.max_batch_size, PROBE_S + plan.consumer.max_batch_timeout_ms / 1000
        queue = Queue(self.store(prober), self.ids, self._settings, plan.name)
        sent = await queue.send_batch([Order(number=-1, work_ms=3_000) for _ in range(calls * size)], delay=0)
        await self.clock.sleep(patience_s)
        begun = {id.hex() for id, _, _ in self.judge.began}
        late = sum(message.id not in begun for message in sent)
        self.judge.check(not late, f"I13: {late} of {len(sent)} messages of {plan.name} wait after {patience_s} s")
        await self.clock.sleep(4)

    async def _settings(self, queue: str) -> Any:
        return (await self.inner.get_queue(queue)).settings

    def close(self) -> None:
        self.loop.bury()
        for machine in self.machines:
            machine.close()
        for store in self._connections:
            at_once(store.close())
        self._folder.cleanup()


async def _nothing() -> None: ...


@contextlib.contextmanager
def turned(knobs: dict[str, object]) -> Iterator[None]:
    """BUGGIFY: constants at their extremes for a while."""
    former: list[tuple[ModuleType, str, object]] = []
    for path, value in knobs.items():
        module_name, _, name = path.rpartition(".")
        module = importlib.import_module(module_name)
        former.append((module, name, getattr(module, name)))
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in former:
            setattr(module, name, value)


def run_seed(seed: int, *, traces: Callable[[str], object] | None = None) -> Report:
    """A world from its beginning to its end."""
    plan = make_plan(seed)
    world = SimWorld(plan, traces)
    with turned(plan.knobs):
        try:
            world.loop.run_until_complete(world.live())
        except AssertionError as error:
            world.judge.violations.append(f"stuck: {error}")
        report = Report(
            seed=seed, digest=world.judge.digest, violations=world.judge.violations, messages=len(world.judge.cards),
            calls=len(world.judge.began), events=world.judge.events, steps=world.loop.steps,
            life_s=world.clock.monotonic(), features=[plan.backend, *sorted(plan.features)],
        )  # fmt: skip
        world.close()
    return report
