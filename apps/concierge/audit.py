"""Who saw and did what: records in the transaction of the change itself, each with a hash over the one before it.

A record that was edited, taken away, put elsewhere or cut off shows in `verify`. With `CONVEYOR_PEPPER` the hash is an
HMAC, which whoever can only write to the database cannot make. No record holds an address or a content of messages.
"""

import functools
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from conveyor_apps.tables import Database, Row, Transaction

HEAD: Final = "audit"
START: Final = "audit_start"
"""The last of those that retention took away."""
FACTS: Final = ("number", "at", "actor", "role", "address", "action", "target", "result")
"""What a record's hash is over, in this order."""
TARGET_CHARS_MAX: Final = 200
_PAGE: Final = 1_000
_GENESIS: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever does something."""

    name: str
    role: str = ""
    address: str = ""


SYSTEM: Final = Who("system")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the trail."""

    number: int
    at: int
    actor: str
    role: str
    address: str
    action: str
    target: str
    result: str
    hash: str


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was written."""

    number: int
    problem: str


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found."""

    records: int
    first: int
    head: str
    """`NUMBER:HASH` of the last one: kept elsewhere, it proves later that nothing before it was changed."""
    faults: list[Fault]


class Trail:
    """The trail of an installation."""

    def __init__(self, database: Database, *, pepper: str | None = None) -> None:
        self._database = database
        self._pepper = None if not pepper else pepper.encode()

    def write(self, tx: Transaction, who: Who, action: str, target: str, *, result: str = "ok") -> None:
        """Add a record within a transaction: it is there if what it tells of is."""
        number, before = _head(tx, HEAD)
        facts: dict[str, Any] = {
            "number": number + 1, "at": tx.now_ms, "actor": who.name, "role": who.role, "address": who.address,
            "action": action, "target": target[:TARGET_CHARS_MAX], "result": result,
        }  # fmt: skip
        sealed = self._seal(before, facts)
        del facts["at"]
        tx.change("add_record", hash=sealed, **facts)
        tx.change("put_head", name=HEAD, number=number + 1, hash=sealed)

    async def record(self, who: Who, action: str, target: str, *, result: str = "ok") -> None:
        """Add a record; it is safely in the file when this returns."""
        await self._database.write(lambda tx: self.write(tx, who, action, target, result=result))

    async def page(
        self, *, limit: int, before: int | None = None, actor: str | None = None, action: str | None = None,
        target: str | None = None, since: int | None = None,
    ) -> list[Record]:  # fmt: skip
        """The newest first, from the one before number `before` on. `action` is a pattern: `message.*`."""
        bounds = {"before": 2**62 if before is None else before, "since": since, "limit": limit}
        rows = await self._database.read(
            lambda tx: tx.rows("records_before", actor=actor, action=action, target=target, **bounds)
        )
        return [read_record(row) for row in rows]

    def forget(self, tx: Transaction, up_to: int) -> int:
        """Take away those up to this number, which somebody has archived; the chain goes on from there. How many."""
        rows = tx.rows("records_after", after=up_to - 1, limit=1)
        if not rows or rows[0][0] != up_to:
            return 0
        tx.change("put_head", name=START, number=up_to, hash=rows[0][8])
        return tx.change("forget_records", number=up_to)

    async def verify(self, *, expected: str | None = None) -> Examined:
        """Read the whole trail. `expected` is the `head` of an earlier examination."""
        start, before = await self._database.read(lambda tx: _head(tx, START))
        first, number, faults = start + 1, start, list[Fault]()
        while True:
            rows = await self._database.read(functools.partial(_page_after, number))
            for row in rows:
                if row[0] != number + 1:
                    faults.append(Fault(number=number + 1, problem="is missing"))
                if not hmac.compare_digest(self._seal(before, _facts(row)), row[8]):
                    faults.append(Fault(number=row[0], problem="is not as it was written, or not where it was"))
                number, before = row[0], row[8]
                if expected is not None and expected.startswith(f"{number}:") and expected != _shown(number, before):
                    faults.append(Fault(number=number, problem="is not the one that was the head before"))
            if len(rows) < _PAGE:
                break
        head, sealed = await self._database.read(lambda tx: _head(tx, HEAD))
        if (head, sealed) != (number, before):
            faults.append(Fault(number=number, problem=f"is the last one here; the head is number {head}"))
        if expected is not None and start < int(expected.partition(":")[0]) > number:
            faults.append(Fault(number=number, problem=f"is the last one here; {expected[:32]} was the head before"))
        return Examined(records=number - start, first=first, head=_shown(number, before), faults=faults)

    def _seal(self, before: bytes, facts: dict[str, Any]) -> bytes:
        return seal(before, facts, self._pepper)


def seal(before: bytes, facts: dict[str, Any], pepper: bytes | None) -> bytes:
    """The hash of a record: over the one before it and its facts, in the order of `FACTS`."""
    data = before + msgspec.json.encode(facts)
    return hashlib.sha256(data).digest() if pepper is None else hmac.digest(pepper, data, "sha256")


def read_record(row: Row) -> Record:
    """Of a row of `records_after` or `records_before`."""
    return Record(**_facts(row), hash=row[8].hex())


def _facts(row: Row) -> dict[str, Any]:
    return dict(zip(FACTS, row, strict=False))


def _page_after(number: int, tx: Transaction) -> list[Row]:
    return tx.rows("records_after", after=number, limit=_PAGE)


def _head(tx: Transaction, name: str) -> tuple[int, bytes]:
    rows = tx.rows("head", name=name)
    return (int(rows[0][0]), bytes(rows[0][1])) if rows else (0, _GENESIS)


def _shown(number: int, sealed: bytes) -> str:
    return f"{number}:{sealed.hex()}"
