"""What the invented world's users do: handlers that fail in every way, clients that send, operators who meddle."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec

from conveyor.model.clock import Clock
from conveyor.model.errors import ConveyorError, OutcomeUnknownError
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.settings import QueueSettings
from conveyor.model.verdict import Ack, RateLimited, Reject, Retry
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.handler import Handler, read_handler
from conveyor.queue.producer import Outgoing, Queue
from conveyor.sim.faults import Weather
from conveyor.sim.fleet import HandlerDiedError
from conveyor.sim.judge import Judge
from conveyor.sim.loop import SimProcess
from conveyor.sim.plan import Feature, Plan, QueuePlan
from conveyor.store.protocol import Store

BATCHES: Final = (1, 1, 1, 2, 3, 8)
FLAKY: Final = ("ok", "fail", "fail", "ok", "retry", "slow")


class Order(msgspec.Struct):
    """A body: its number, and how its handler is to behave."""

    number: int
    mood: str = "ok"
    work_ms: int = 0


class SimIds(IdSource):
    """Ids that are the same in every run."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._next = 0

    def new(self) -> MessageId:
        self._next += 1
        return MessageId(self._next.to_bytes(16, "big"))


class Clerk:
    """The handlers of one worker process."""

    def __init__(
        self, owner: int, process: SimProcess, clock: Clock, weather: Weather, judge: Judge, chance: Random
    ) -> None:
        self._owner = owner
        self._process = process
        self._clock = clock
        self._weather = weather
        self._judge = judge
        self._chance = chance
        self.died_in_child = False

    def handler(self, plan: QueuePlan, *, in_child: bool) -> Handler:
        run_in = "process" if plan.in_child else None
        if plan.takes_batches:

            async def handle_batch(batch: Batch[Order]) -> object:
                return await self._handle(list(batch), batch, in_child=in_child)

            return read_handler(plan.name, handle_batch, plan.consumer, run_in=run_in)

        async def handle(message: Message[Order]) -> object:
            return await self._handle([message], None, in_child=in_child)

        return read_handler(plan.name, handle, plan.consumer, run_in=run_in)

    async def _handle(self, messages: list[Message[Order]], batch: Batch[Order] | None, *, in_child: bool) -> object:
        leases = [message._lease for message in messages]
        who = self._process.name
        self._judge.call_began(self._owner, leases, who, in_child=in_child)
        word = "cut"
        try:
            await self._clock.sleep(max(self._work_s(message.body) for message in messages))
            word = await self._mood(messages, batch, in_child=in_child)
        finally:
            if not self._process.is_ghost:
                self._judge.call_ended(self._owner, leases, who, word)
        return self._say(word)

    def _work_s(self, order: Order) -> float:
        """Once the faults are over only probes take their time: what is left is to end."""
        return 0.0 if self._weather.is_calm and order.number > 0 else order.work_ms / 1000

    async def _mood(self, messages: list[Message[Order]], batch: Batch[Order] | None, *, in_child: bool) -> str:
        """What becomes of a call: the worst mood of its messages decides."""
        moods = {message.body.mood for message in messages}
        if "poison" in moods:
            if in_child:
                raise HandlerDiedError
            self._process.kill()
            await self._clock.sleep(3_600)
        if "hang" in moods and not (self._weather.is_calm and self._chance.random() < 0.7):
            await self._clock.sleep(3_600)
        for mood in ("broken", "reject", "limited"):
            if mood in moods:
                if mood == "limited" and self._chance.random() < 0.6:
                    return "ok"
                return mood
        if "slow" in moods:
            await self._clock.sleep(self._chance.choice((0.1, 0.1 if self._weather.is_calm else 5.0)))
        return self._chance.choice(FLAKY).replace("slow", "ok") if "flaky" in moods else "ok"

    def _say(self, word: str) -> object:
        match word:
            case "broken" | "fail":
                raise ValueError(word)
            case "retry":
                return Retry(self._chance.choice((None, 0, 0.3, 2)))
            case "reject":
                raise Reject("never")
            case "limited":
                return RateLimited(self._chance.choice((0.2, 1.5)))
            case _:
                return Ack()


class Client:
    """A process that sends, and knows what it was told."""

    def __init__(self, plan: Plan, store: Store, judge: Judge, chance: Random, ids: IdSource, name: str) -> None:
        self._plan = plan
        self._store = store
        self._judge = judge
        self._chance = chance
        self._queues = [Queue(store, ids, self._settings, each.name) for each in plan.queues]
        self._name = name
        self._number = 0
        self._works_ms = (0, 20, 300, 1_000, 6_000) if Feature.STOPS in plan.features else (0, 0, 20, 300, 1_000)

    async def _settings(self, queue: str) -> QueueSettings:
        return (await self._store.get_queue(queue)).settings

    async def live(self) -> None:
        """Send until the end, or until there is enough to do."""
        pause_s = self._plan.life_s / self._plan.orders * sum(BATCHES) / len(BATCHES)
        while self._number < self._plan.orders:
            await self._store.clock.sleep(self._chance.expovariate(1 / pause_s))
            queue = self._chance.choice(self._queues)
            try:
                await self._send(queue)
            except ConveyorError as error:
                kind = "?" if isinstance(error, OutcomeUnknownError) else "!"
                self._judge.note(self._name, f"send {kind}")

    async def _send(self, queue: Queue) -> None:
        count = self._chance.choice(BATCHES)
        orders = [self._order() for _ in range(count)]
        if count == 1:
            sent = [await queue.send(orders[0].body, **self._options(orders[0]))]
        else:
            sent = await queue.send_batch(orders)
        for each in sent:
            self._judge.check(MessageId(bytes.fromhex(each.id)) in self._judge.cards, "I1: a confirmed send is nowhere")

    def _options(self, order: Outgoing) -> dict[str, Any]:
        fields = ("delay", "priority", "key", "dedupe", "expires_in")
        return {field: getattr(order, field) for field in fields if getattr(order, field) is not None}

    def _order(self) -> Outgoing:
        self._number += 1
        has, chance = self._plan.features.__contains__, self._chance
        return Outgoing(
            Order(number=self._number, mood=self._mood(), work_ms=chance.choice(self._works_ms)),
            delay=chance.choice((None, 0, 0.5, 6)) if has(Feature.DELAYS) else None,
            priority=chance.choice((None, 0, 9)) if has(Feature.PRIORITIES) else None,
            key=chance.choice((None, "red", "blue", "green")) if has(Feature.KEYS) else None,
            dedupe=chance.choice((None, None, None, "one", "two")) if has(Feature.DEDUPE) else None,
            expires_in=chance.choice((None, None, 2, 20)) if has(Feature.EXPIRY) else None,
        )

    def _mood(self) -> str:
        has = self._plan.features.__contains__
        moods = ["ok"] * 12 + ["flaky"] * 3 + ["broken", "reject", "slow"]
        moods += ["poison"] if has(Feature.POISON) else []
        moods += ["limited"] if has(Feature.RATES) else []
        moods += ["hang"] if has(Feature.TIMEOUTS) else []
        return self._chance.choice(moods)


class Operator:
    """Pauses, purges and redrives at the wrong moment."""

    def __init__(self, plan: Plan, store: Store, chance: Random) -> None:
        self._plan = plan
        self._store = store
        self._chance = chance
        self._acts = [each for each in (Feature.PAUSES, Feature.PURGES, Feature.REDRIVES) if each in plan.features]

    async def live(self) -> None:
        while self._acts:
            await self._store.clock.sleep(self._chance.uniform(0.5, 10))
            queue = self._chance.choice(self._plan.queues)
            try:
                await self._act(self._chance.choice(self._acts), queue)
            except ConveyorError:
                continue

    async def _act(self, act: Feature, queue: QueuePlan) -> None:
        if act is Feature.PAUSES:
            await self._store.pause(queue.name)
            await self._store.clock.sleep(self._chance.choice((0.05, 1, 8)))
            await self._store.resume(queue.name)
        elif act is Feature.PURGES:
            await self._store.purge(self._chance.choice((queue.name, queue.consumer.dead_letter_queue or queue.name)))
        elif queue.consumer.dead_letter_queue is not None:
            await self._store.redrive(queue.consumer.dead_letter_queue)
