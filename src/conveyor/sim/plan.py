"""What a seed decides before anything happens: the features that meet, the queues, the machines and the faults."""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import Final

import msgspec

from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Backoff
from conveyor.store.records import OWNER_LEASE_MS

SCRIPT: Final = "shop"
CRON_QUEUE: Final = "shop-cron"


class Feature(StrEnum):
    """What may be part of a world. Each seed leaves out about half."""

    DELAYS = "delays"
    PRIORITIES = "priorities"
    KEYS = "keys"
    DEDUPE = "dedupe"
    BATCHES = "batches"
    LIMITS = "max_concurrency"
    POISON = "poison"
    PAUSES = "pauses"
    PURGES = "purges"
    REDRIVES = "redrives"
    EXPIRY = "expiry"
    CRON = "cron"
    RATES = "rate limits"
    TIMEOUTS = "timeouts"
    CHILDREN = "children"
    KILLS = "kills"
    STOPS = "stops"
    ROLLS = "rolling restarts"
    FAULTS = "store faults"
    DEAF = "lost wakes"
    JOBS = "jobs"


class Backend(StrEnum):
    """Which store lies under all that goes wrong."""

    MEMORY = "memory"
    SQLITE = "sqlite"


class QueuePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One queue, with its consumer."""

    name: str
    settings: QueueSettings
    consumer: ConsumerSettings
    takes_batches: bool
    in_child: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A world, before its first step."""

    seed: int
    backend: Backend
    features: frozenset[Feature]
    queues: list[QueuePlan]
    machines: int
    processes: int
    concurrency: int
    clients: int
    life_s: float
    orders: int
    """Messages that each client sends, about evenly over the life."""
    fault_rate: float
    """Of the store's transactions."""
    lease_ms: int
    """Of owners."""
    knobs: dict[str, object]
    """BUGGIFY: constants of the code that are set to their extremes, by `module.NAME`."""


_KNOBS: Final[dict[str, tuple[object, ...]]] = {
    "conveyor.queue.settle.FLUSH_MESSAGES": (1, 2, 1_000),
    "conveyor.queue.settle.FLUSH_AFTER_S": (0.0, 0.3),
    "conveyor.queue.settle.FLIGHTS_MAX": (1,),
    "conveyor.queue.consumer.PREFETCH_S": (0.0, 20.0),
    "conveyor.queue.consumer.CLAIM_MESSAGES_MAX": (1, 3),
    "conveyor.queue.consumer.CHECK_S": (0.5,),
    "conveyor.queue.consumer.RECONCILE_S": (5.0, 600.0),
    "conveyor.queue.worker.STUCK_S": (0.5,),
    "conveyor.cron.scheduler.POLL_S": (0.5, 30.0),
    "conveyor.cron.scheduler.MISSED_TICKS_MAX": (1,),
}
_LEASES: Final = (
    "conveyor.store.memory.owners.OWNER_LEASE_MS", "conveyor.store.sqlite.owners.OWNER_LEASE_MS",
    "conveyor.supervisor.supervisor.OWNER_LEASE_MS", "conveyor.sim.ends.OWNER_LEASE_MS",
)  # fmt: skip
_HEARTBEAT: Final = "conveyor.supervisor.supervisor.HEARTBEAT_S"


def make_plan(seed: int) -> Plan:
    """The same for the same seed, always."""
    chance = Random(f"plan {seed}")
    drawn: dict[Feature, bool] = {each: chance.random() < 0.5 for each in Feature if each is not Feature.JOBS}
    drawn[Feature.JOBS] = Random(f"jobs {seed}").random() < 0.5  # a late one: the others' dice fall as before
    features = frozenset(each for each, is_part in drawn.items() if is_part)
    machines, clients = chance.choice((1, 1, 2, 3)), chance.choice((1, 2, 3))
    if Feature.STOPS in features:
        machines = max(2, machines)  # somebody must see it
    knobs: dict[str, object] = {name: chance.choice(each) for name, each in _KNOBS.items() if chance.random() < 0.25}
    lease_ms = chance.choice((OWNER_LEASE_MS, 6_000, 6_000))
    knobs |= dict.fromkeys(_LEASES, lease_ms) | {_HEARTBEAT: lease_ms / 3_000}
    return Plan(
        seed=seed,
        backend=Random(f"backend {seed}").choice((Backend.MEMORY, Backend.MEMORY, Backend.SQLITE)),
        features=features,
        queues=[_queue(chance, features, name) for name in ("alpha", "beta", "gamma")[: chance.choice((1, 2, 2, 3))]],
        machines=machines,
        processes=chance.choice((1, 2, 3)) if machines == 1 else chance.choice((1, 2)),
        concurrency=chance.choice((1, 2, 4, 10)),
        clients=clients,
        life_s=chance.choice((20.0, 66.0) if Feature.CRON in features else (10.0, 20.0, 40.0)),
        orders=chance.choice((40, 80, 160)) // clients,
        fault_rate=chance.choice((0.01, 0.05, 0.2)) if Feature.FAULTS in features else 0.0,
        lease_ms=lease_ms,
        knobs=knobs,
    )


def _queue(chance: Random, features: frozenset[Feature], name: str) -> QueuePlan:
    keyed = Feature.KEYS in features and chance.random() < 0.7
    ordered = keyed and chance.random() < 0.7
    batches = Feature.BATCHES in features and chance.random() < 0.6
    consumer = ConsumerSettings(
        script=SCRIPT,
        ageing_ms=None,  # the judge knows each message by the priority it was sent with
        max_batch_size=chance.choice((1, 2, 5)) if batches else 1,
        max_batch_timeout_ms=chance.choice((0, 500, 3_000)),
        max_retries=chance.choice((0, 1, 3, 5)),
        retry_delay=chance.choice((Backoff(base_ms=0), Backoff(base_ms=700), Backoff.exponential(0.5, most=4))),
        max_concurrency=chance.choice((1, 2, 5)) if Feature.LIMITS in features and chance.random() < 0.7 else None,
        dead_letter_queue=f"{name}-dlq" if chance.random() < 0.8 else None,
        timeout_ms=4_000 if Feature.TIMEOUTS in features else 600_000,
        ordered=ordered,
        key_concurrency=chance.choice((1, 2)) if keyed and not ordered else None,
    )
    settings = QueueSettings(
        delivery_delay_ms=chance.choice((0, 400)) if Feature.DELAYS in features else 0,
        dedupe_window_ms=chance.choice((0, 5_000)) if Feature.DEDUPE in features else 0,
    )
    in_child = Feature.CHILDREN in features and chance.random() < 0.4
    return QueuePlan(name=name, settings=settings, consumer=consumer, takes_batches=batches, in_child=in_child)
