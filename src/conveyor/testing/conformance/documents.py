"""Records of the control plane, and trails of them."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from conveyor.model.errors import InvalidKeyError, VersionConflictError
from conveyor.store.protocol import Store
from conveyor.store.records import TRAIL_KIND, Document
from conveyor.testing.clock import ManualClock


async def names_in(store: Store, *, prefix: str = "", limit: int = 100, after: str | None = None) -> list[str]:
    return [each.name for each in await store.list_documents("thing", prefix=prefix, limit=limit, after=after)]


def chain(before: bytes, body: bytes) -> bytes:
    """A seal whose order shows."""
    return before[-1:] + b">" + body


@pytest.mark.anyio
class TestDocuments:
    async def test_a_document_comes_back_as_it_was_put(self, store: Store, clock: ManualClock) -> None:
        now = clock.now_ms()
        put = await store.put_document("thing", "a", bytes(range(256)))
        expected = Document(kind="thing", name="a", body=bytes(range(256)), version=1, created_at=now, modified_at=now)
        assert put == expected
        assert await store.get_document("thing", "a") == expected
        assert await store.get_document("other", "a") is None

    async def test_a_change_counts_the_version_and_keeps_the_birthday(self, store: Store, clock: ManualClock) -> None:
        first = await store.put_document("thing", "a", b"1")
        await clock.advance(1)
        second = await store.put_document("thing", "a", b"2")
        assert (second.version, second.created_at, second.modified_at) == (
            2,
            first.created_at,
            first.created_at + 1_000,
        )

    async def test_a_version_is_what_must_be_there(self, store: Store) -> None:
        await store.put_document("thing", "a", b"1", version=0)
        with pytest.raises(VersionConflictError):
            await store.put_document("thing", "a", b"2", version=0)
        assert (await store.put_document("thing", "a", b"2", version=1)).version == 2
        with pytest.raises(VersionConflictError):
            await store.put_document("thing", "a", b"3", version=1)
        with pytest.raises(VersionConflictError):
            await store.put_document("thing", "none", b"3", version=1)
        found = await store.get_document("thing", "a")
        assert found is not None and found.body == b"2"
        assert await names_in(store) == ["a"]

    async def test_of_many_at_once_one_wins(self, store: Store) -> None:
        tries = [store.put_document("thing", "a", b"%d" % number, version=0) for number in range(8)]
        won = [each for each in await asyncio.gather(*tries, return_exceptions=True) if isinstance(each, Document)]
        assert len(won) == 1
        assert await store.get_document("thing", "a") == won[0]

    async def test_a_deleted_document_is_gone(self, store: Store) -> None:
        await store.put_document("thing", "a", b"1")
        with pytest.raises(VersionConflictError):
            await store.delete_document("thing", "a", version=2)
        assert await store.delete_document("thing", "a", version=1)
        assert not await store.delete_document("thing", "a", version=1)
        assert not await store.delete_document("thing", "a")
        assert (await store.put_document("thing", "a", b"2")).version == 1
        assert await store.delete_document("thing", "a")

    async def test_names_are_listed_in_the_order_of_their_bytes(self, store: Store) -> None:
        names = ["a", "Z", "ä", "aa", "\uffee", "\U0001f600", "a b", "a%", "a_", "~"]
        for name in names:
            await store.put_document("thing", name, b"{}")
        await store.put_document("other", "b", b"{}")
        ordered = sorted(names, key=str.encode)
        assert await names_in(store) == ordered
        assert await names_in(store, limit=3) == ordered[:3]
        assert await names_in(store, after=ordered[2]) == ordered[3:]
        assert await names_in(store, prefix="a_") == ["a_"]
        assert await names_in(store, prefix="a", after="a") == [
            name for name in ordered if name > "a" and name[0] == "a"
        ]

    @pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 1_025])
    async def test_a_name_that_no_database_takes_is_refused_by_all(self, store: Store, name: str) -> None:
        with pytest.raises(InvalidKeyError):
            await store.put_document("thing", name, b"{}")

    async def test_such_a_name_may_be_asked_for(self, store: Store) -> None:
        for name in ("a", "b"):
            await store.put_document("thing", name, b"{}")
        assert await store.get_document("thing", "a\0b") is None
        assert await store.delete_document("thing", "a\0b") is False
        assert await names_in(store, prefix="a\0") == []
        assert await names_in(store, after="a\0b") == ["b"]
        assert await names_in(store, after="\0") == ["a", "b"]


@pytest.mark.anyio
class TestTrails:
    async def test_a_record_is_sealed_with_the_one_before_it(self, store: Store) -> None:
        for body in (b"a", b"b", b"c"):
            await store.append_record("log", body, chain)
        found = await store.list_documents("log", limit=9)
        assert [each.body for each in found] == [b">a", b"a>b", b"b>c"]
        assert [int(each.name) for each in found] == [1, 2, 3]
        head = await store.get_document(TRAIL_KIND, "log")
        assert head is not None and (head.version, head.body) == (3, b"b>c")

    async def test_records_that_come_at_once_form_one_chain(self, store: Store) -> None:
        await asyncio.gather(*(store.append_record("log", b"%d" % number, chain) for number in range(8)))
        found = [each.body for each in await store.list_documents("log", limit=99)]
        assert sorted(body[-1:] for body in found) == [b"%d" % number for number in range(8)]
        assert all(later[:1] == earlier[-1:] for earlier, later in itertools.pairwise(found))

    async def test_trails_do_not_know_each_other(self, store: Store) -> None:
        await store.append_record("log", b"a", chain)
        assert (await store.append_record("other", b"b", chain)).body == b">b"

    async def test_a_seal_that_raises_leaves_nothing(self, store: Store) -> None:
        def refuse(_before: bytes, _body: bytes) -> bytes:
            raise VersionConflictError("record", "no")

        with pytest.raises(VersionConflictError):
            await store.append_record("log", b"a", refuse)
        assert await store.list_documents("log", limit=9) == []
        assert (await store.append_record("log", b"b", chain)).name.endswith("1")
