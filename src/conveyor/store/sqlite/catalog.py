"""Queues as the writer knows them: read once, kept until somebody, in any process, changes one."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from conveyor.model.errors import QueueNotFoundError, StoreCorruptError
from conveyor.model.settings import ConsumerSettings, QueueSettings, check_name
from conveyor.store.records import QueueInfo

_SETTINGS: Final = msgspec.json.Decoder(QueueSettings)
_CONSUMER: Final = msgspec.json.Decoder(ConsumerSettings)


class Statements(Protocol):
    """What the catalog needs of a transaction."""

    now: int

    def row(self, name: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row of a named statement, or None."""
        ...

    def run(self, name: str, *values: Any) -> int:
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
    uses_dedupe: bool
    rests_keys: bool
    version: int
    created_at: int
    modified_at: int
    first_name: str | None

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
    """The cache of one writer. `refresh` drops it when the store's version says that it is old."""

    def __init__(self) -> None:
        self._version = -1
        self._rows: dict[str, QueueRow] = {}
        self._names: dict[int, str | None] = {}

    def refresh(self, version: int) -> None:
        if version != self._version:
            self.forget()
            self._version = version

    def forget(self) -> None:
        """Trust nothing: a transaction was rolled back, or a queue has changed."""
        self._version = -1
        self._rows.clear()
        self._names.clear()

    def get(self, tx: Statements, name: str) -> QueueRow:
        """`QueueNotFoundError`."""
        row = self.find(tx, name)
        if row is None:
            renamed = self.meant(tx, name)
            raise QueueNotFoundError(name, now=None if renamed is None else renamed.name)
        return row

    def find(self, tx: Statements, name: str) -> QueueRow | None:
        row = self._rows.get(name)
        if row is None:
            found = tx.row("read_queue", name)
            if found is not None:
                row = self._rows[name] = decode_queue(found)
        return row

    def meant(self, tx: Statements, name: str) -> QueueRow | None:
        """The queue of this name, else the one that has had it: for what was on its way when that was renamed."""
        row = self.find(tx, name)
        if row is None:
            found = tx.row("find_renamed", name)
            row = None if found is None else self.find(tx, found[0])
        return row

    def called_now(self, tx: Statements, name: str) -> str:
        """What a worker calls a queue may be its name of before."""
        row = self.meant(tx, name)
        return name if row is None else row.name

    def of_lane(self, tx: Statements, lane: int) -> QueueRow | None:
        """None: the lane was purged, or its queue deleted."""
        if lane not in self._names:
            found = tx.row("read_queue_of_lane", lane)
            self._names[lane] = None if found is None else str(found[0])
        name = self._names[lane]
        return None if name is None else self.find(tx, name)

    def has_lane(self, tx: Statements, lane: int) -> bool:
        return self.of_lane(tx, lane) is not None

    def ensure(self, tx: Statements, name: str) -> QueueRow:
        """The queue of this name, made with default settings if there is none."""
        return self.find(tx, name) or self.create(tx, name, QueueSettings())

    def create(self, tx: Statements, name: str, settings: QueueSettings) -> QueueRow:
        check_name("queue", name)
        settings.check()
        tx.run("forget_former", name)
        tx.run("insert_queue", name, self.new_lane(tx), _json(settings), tx.now)
        return self.changed(tx, name)

    def write(self, tx: Statements, row: QueueRow) -> QueueRow:
        """Store a changed row; its version grows."""
        tx.run(
            "write_queue",
            *(_json(row.settings), _json(row.consumer), _json(row.declared)),
            *(row.paused, row.lane, row.holds_dead, row.uses_dedupe, tx.now, row.name),
        )
        return self.changed(tx, row.name)

    def changed(self, tx: Statements, name: str) -> QueueRow:
        """Tell all caches, and read the queue anew."""
        self.bump(tx)
        return self.get(tx, name)

    def bump(self, tx: Statements) -> None:
        self.forget()
        found = tx.row("bump_catalog_version")
        assert found is not None
        self._version = int(found[0])

    def new_lane(self, tx: Statements) -> int:
        found = tx.row("next_lane")
        assert found is not None
        return int(found[0])


def decode_queue(found: tuple[Any, ...]) -> QueueRow:
    """A row of `read_queue`."""
    name, lane, settings, consumer, declared, paused, throttled_until, levels, *rest = found
    holds_dead, uses_dedupe, rests_keys, version, created_at, modified_at, first_name = rest
    try:
        promises = _SETTINGS.decode(settings)
        operating, last = (None if each is None else _CONSUMER.decode(each) for each in (consumer, declared))
    except msgspec.DecodeError as error:  # nobody but conveyor writes it, and conveyor writes JSON
        raise StoreCorruptError(f"queue {name}", str(error)) from error
    return QueueRow(
        name=name,
        lane=lane,
        settings=promises,
        consumer=operating,
        declared=last,
        paused=bool(paused),
        throttled_until=throttled_until,
        levels=levels,
        holds_dead=bool(holds_dead),
        uses_dedupe=bool(uses_dedupe),
        rests_keys=bool(rests_keys),
        version=version,
        created_at=created_at,
        modified_at=modified_at,
        first_name=first_name,
    )


def _json(value: msgspec.Struct | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
