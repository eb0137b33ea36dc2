"""What a store promises and Cloudflare's API has no word for. Owners are not needed there: each lease has an end of its
own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NoReturn

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.clock import Clock
from conveyor.model.dispatch import Dispatch
from conveyor.model.errors import InvalidTransactionError, StoreUnsupportedError
from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.model.settings import ConsumerSettings
from conveyor.store.protocol import Seal
from conveyor.store.records import (
    Alarm,
    Delivery,
    Document,
    Evidence,
    Fired,
    Firing,
    OwnerInfo,
    OwnerRow,
    Reaped,
    Schedule,
    ScheduleDraft,
    Swept,
)


class Absent:
    """`OwnerStore`, `ScheduleStore`, `KeyValueStore` and `Joinable` of a store that has only queues."""

    clock: Clock
    host = "remote"

    def join(self, tx: object) -> NoReturn:
        raise InvalidTransactionError(tx, "the queue lives behind HTTP, where no transaction reaches")

    async def extend(self, seq: int, claim: int, lease_ms: int) -> None:
        raise unsupported("extends no lease", "ask for a longer one: `?lease=30m`")

    # Owners

    async def register_owner(self, info: OwnerInfo, *, owner: int | None = None) -> int:
        return self.clock.now_ms() if owner is None else owner

    async def renew_owners(self, owners: Sequence[int]) -> list[int]:
        return []

    async def reap_owner(self, owner: int, evidence: Evidence) -> Reaped:
        return Reaped(released=[], suspects=[], failed=[], dead=[])

    async def reconcile(self, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int) -> int:
        """What nobody here knows of comes back when its lease ends."""
        return 0

    async def list_owners(self) -> list[OwnerRow]:
        return []

    async def sweep(self) -> Swept:
        return Swept()

    # Schedules

    async def declare_schedule(self, draft: ScheduleDraft, next_tick: int | None) -> Schedule:
        raise _no_schedules()

    async def fire(self, firing: Firing) -> Fired:
        raise _no_schedules()

    async def begin_run(self, schedule: str, tick: int) -> None:
        raise ScheduleNotFoundError(schedule)

    async def finish_run(self, schedule: str, tick: int, *, error: str | None) -> None:
        raise ScheduleNotFoundError(schedule)

    # Alarms

    async def set_alarm(self, name: str, due_at: int, message: Draft, *, was: MessageId | None = None) -> Alarm:
        raise _no_alarms()

    async def get_alarm(self, name: str) -> Alarm | None:
        return None

    async def list_alarms(self, *, limit: int, after: str | None = None, only_parked: bool = False) -> list[Alarm]:
        return []

    async def cancel_alarm(self, name: str) -> bool:
        return False

    async def start_alarm(self, name: str, message_id: MessageId) -> Alarm | None:
        raise _no_alarms()

    async def finish_alarm(self, name: str, message_id: MessageId, *, error: str | None) -> bool:
        raise _no_alarms()

    # Deliveries

    async def open_deliveries(self, opened: Sequence[tuple[Delivery, Draft]]) -> None:
        raise _no_deliveries()

    async def write_delivery(self, delivery: Delivery) -> bool:
        raise _no_deliveries()

    async def get_delivery(self, delivery: MessageId) -> Delivery | None:
        return None

    async def list_deliveries(
        self, *, endpoint: str | None = None, state: str | None = None, limit: int, before: MessageId | None = None
    ) -> list[Delivery]:
        return []

    # Documents: whoever manages these queues keeps them

    async def put_document(self, kind: str, name: str, body: bytes, *, version: int | None = None) -> Document:
        raise _no_documents()

    async def get_document(self, kind: str, name: str) -> Document | None:
        raise _no_documents()

    async def delete_document(self, kind: str, name: str, *, version: int | None = None) -> bool:
        raise _no_documents()

    async def list_documents(
        self, kind: str, *, prefix: str = "", limit: int, after: str | None = None
    ) -> list[Document]:
        raise _no_documents()

    async def append_record(self, trail: str, body: bytes, seal: Seal) -> Document:
        raise _no_documents()



def check_consumer(queue: str, settings: ConsumerSettings) -> None:
    """`StoreUnsupportedError` for promises that need the store itself."""
    wanted = {
        "ordered": settings.ordered,
        "key_concurrency": settings.key_concurrency is not None,
        "rate": settings.rate is not None,
        "key_rate": settings.key_rate is not None,
        "fair": settings.fair,
        "alert_queue": settings.alert_queue is not None,
        "dispatch": settings.dispatch is not Dispatch.QUEUE,
    }
    for name, is_wanted in wanted.items():
        if is_wanted:
            raise unsupported(f"cannot keep `{name}` of queue `{queue}`", "leave it out of `@app.consumer(...)`")


def _no_schedules() -> StoreUnsupportedError:
    return unsupported("keeps no schedules", "give the app a store of its own, and route only queues to this one")


def _no_alarms() -> StoreUnsupportedError:
    return unsupported("keeps no alarms", "give the app a store of its own, and route only queues to this one")


def _no_deliveries() -> StoreUnsupportedError:
    return unsupported("sends no webhooks", "give the app a store of its own, and route only queues to this one")


def _no_documents() -> StoreUnsupportedError:
    return unsupported("keeps no tokens and no records", "give this command where the queues live")


def unsupported(what: str, hint: str) -> StoreUnsupportedError:
    """An error that names the next best thing."""
    return StoreUnsupportedError(f"a store behind Cloudflare's API {what}", hint=hint)
