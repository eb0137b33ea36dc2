"""The queues, read whole and kept until somebody, in any process, changes one.

A `Catalog` never changes. Every transaction holds the catalog's lock (shared), so that what it reads stays true until
its end; whoever changes a queue holds it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from conveyor.model.errors import QueueNotFoundError
from conveyor.model.settings import ConsumerSettings, QueueSettings, check_name
from conveyor.store.records import QueueInfo

_SETTINGS: Final = msgspec.json.Decoder(QueueSettings)
_CONSUMER: Final = msgspec.json.Decoder(ConsumerSettings)


class Statements(Protocol):
    """What the catalog needs of a transaction."""

    now: int
    catalog: Catalog

    def require_catalog(self) -> None:
        """Run again, holding the catalog alone, unless it is so held."""
        ...

    async def rows(self, name: str, *values: Any) -> Sequence[Any]:
        """All rows of a named statement."""
        ...

    async def row(self, name: str, *values: Any) -> Any:
        """The first row of a named statement, or None."""
        ...

    async def run(self, name: str, *values: Any) -> int:
        """Run a named statement that answers nothing."""
        ...


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `queues`, decoded."""

    name: str
    lane: int
    settings: QueueSettings
    consumer: ConsumerSettings | None
    declared: ConsumerSettings | None
    paused: bool
    throttled_until: int
    levels: int
    holds_dead: bool
    rests_keys: bool
    version: int
    created_at: int
    modified_at: int
    first_name: str | None
    former: tuple[str, ...]

    @property
    def info(self) -> QueueInfo:
        """What rooms above see of it."""
        return QueueInfo(
            name=self.name,
            settings=self.settings,
            consumer=self.consumer,
            paused=self.paused,
            version=self.version,
            created_at=self.created_at,
            modified_at=self.modified_at,
            first_name=self.first_name,
        )

    @property
    def tracks_jobs(self) -> bool:
        return self.consumer is not None and self.consumer.tracks_jobs

    @property
    def gates_keys(self) -> bool:
        return self.consumer is not None and self.consumer.gates_keys

    @property
    def is_judged(self) -> bool:
        """Whether each message is looked at before it is leased, because of its key or of a rate."""
        return self.consumer is not None and (self.consumer.gates_keys or self.consumer.rate is not None)

    @property
    def is_fair(self) -> bool:
        return self.consumer is not None and self.consumer.fair

    @property
    def closes_keys(self) -> bool:
        """Whether a key may be closed until a moment: by its rate, or since a handler has asked for it."""
        return self.gates_keys and (
            self.rests_keys or (self.consumer is not None and self.consumer.key_rate is not None)
        )

    def gate_key(self, key: str | None) -> str | None:
        """The key under which a message stands at the gate here; None: it is free."""
        return None if self.consumer is None else self.consumer.gate_key(key)

    @property
    def priorities(self) -> list[int]:
        """The levels that were ever used, highest first."""
        return [level for level in range(9, -1, -1) if self.levels >> level & 1]

    @property
    def max_retries(self) -> int:
        return (self.consumer or _DEFAULT).max_retries


_DEFAULT: Final = ConsumerSettings()


class Catalog:
    """All queues at one version."""

    def __init__(self, version: int, rows: Iterable[QueueRow]) -> None:
        self.version = version
        self.rows = {row.name: row for row in rows}
        self._lanes = {row.lane: row for row in self.rows.values()}
        self._former = {name: row for row in self.rows.values() for name in row.former}
        self.gates_keys = any(row.gates_keys for row in self.rows.values())

    def get(self, name: str) -> QueueRow:
        """`QueueNotFoundError`."""
        row = self.rows.get(name)
        if row is None:
            renamed = self.meant(name)
            raise QueueNotFoundError(name, now=None if renamed is None else renamed.name)
        return row

    def find(self, name: str) -> QueueRow | None:
        return self.rows.get(name)

    def meant(self, name: str) -> QueueRow | None:
        """The queue of this name, else the one that has had it: for what was on its way when that was renamed."""
        return self.rows.get(name) or self._former.get(name)

    def called_now(self, name: str) -> str:
        """What a worker calls a queue may be its name of before."""
        row = self.meant(name)
        return name if row is None else row.name

    def of_lane(self, lane: int) -> QueueRow | None:
        """None: the lane was purged, or its queue deleted."""
        return self._lanes.get(lane)


EMPTY: Final = Catalog(-1, [])


async def read_catalog(tx: Statements, version: int) -> Catalog:
    return Catalog(version, [_decode(found) for found in await tx.rows("read_queues")])


async def ensure(tx: Statements, name: str) -> QueueRow:
    """The queue of this name, made with default settings if there is none."""
    return tx.catalog.find(name) or await create(tx, name, QueueSettings())


async def create(tx: Statements, name: str, settings: QueueSettings) -> QueueRow:
    check_name("queue", name)
    settings.check()
    tx.require_catalog()
    await tx.run("forget_former", name)
    await tx.run("insert_queue", name, await new_lane(tx), _json(settings), tx.now)
    await bump(tx)
    return tx.catalog.get(name)


async def write(tx: Statements, row: QueueRow) -> QueueRow:
    """Store a changed row; its version grows."""
    tx.require_catalog()
    await tx.run(
        "write_queue",
        *(_json(row.settings), _json(row.consumer), _json(row.declared)),
        *(row.paused, row.lane, row.holds_dead, tx.now, row.name),
    )
    await bump(tx)
    return tx.catalog.get(row.name)


async def bump(tx: Statements) -> None:
    """Tell all caches, and read the queues anew."""
    found = await tx.row("bump_catalog_version")
    assert found is not None
    tx.catalog = await read_catalog(tx, found[0])


async def new_lane(tx: Statements) -> int:
    found = await tx.row("next_lane")
    assert found is not None
    return int(found[0])


def _decode(found: Any) -> QueueRow:
    name, lane, settings, consumer, declared, paused, throttled_until, levels, *rest = found
    holds_dead, rests_keys, version, created_at, modified_at, first_name, former = rest
    return QueueRow(
        name=name,
        lane=lane,
        settings=_SETTINGS.decode(settings),
        consumer=None if consumer is None else _CONSUMER.decode(consumer),
        declared=None if declared is None else _CONSUMER.decode(declared),
        paused=paused,
        throttled_until=throttled_until,
        levels=levels,
        holds_dead=holds_dead,
        rests_keys=rests_keys,
        version=version,
        created_at=created_at,
        modified_at=modified_at,
        first_name=first_name,
        former=tuple(former.split()),
    )


def _json(value: msgspec.Struct | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
