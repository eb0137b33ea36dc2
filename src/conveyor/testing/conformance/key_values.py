"""Named values with an end."""

from __future__ import annotations

import pytest

from conveyor.store.protocol import Store
from conveyor.store.records import KeyInfo
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import an_entry


async def keys_in(store: Store, *, prefix: str = "", limit: int = 100, after: str | None = None) -> list[str]:
    return [info.key for info in await store.kv_list("ns", prefix=prefix, limit=limit, after=after)]


@pytest.mark.anyio
class TestKeyValues:
    async def test_an_entry_comes_back_as_it_was_put(self, store: Store, clock: ManualClock) -> None:
        entry = an_entry(value=bytes(range(256)), metadata=b'{"a":1}', expires_at=clock.now_ms() + 1_000)
        await store.kv_put("ns", entry)
        assert await store.kv_get("ns", "colour") == entry

    async def test_a_second_put_replaces_all_of_the_first(self, store: Store, clock: ManualClock) -> None:
        await store.kv_put("ns", an_entry(metadata=b"{}", expires_at=clock.now_ms() + 1_000))
        await store.kv_put("ns", an_entry(value=b""))
        assert await store.kv_get("ns", "colour") == an_entry(value=b"")

    async def test_namespaces_do_not_know_each_other(self, store: Store) -> None:
        await store.kv_put("ns", an_entry())
        assert await store.kv_get("other", "colour") is None
        assert not await store.kv_delete("other", "colour")
        assert await store.kv_list("other", prefix="", limit=9, after=None) == []

    async def test_a_deleted_entry_is_gone(self, store: Store) -> None:
        await store.kv_put("ns", an_entry())
        assert await store.kv_delete("ns", "colour")
        assert not await store.kv_delete("ns", "colour")
        assert await store.kv_get("ns", "colour") is None

    async def test_an_expired_entry_is_not_there(self, store: Store, clock: ManualClock) -> None:
        await store.kv_put("ns", an_entry(expires_at=clock.now_ms() + 1_000))
        await clock.advance(0.999)
        assert await store.kv_get("ns", "colour") is not None
        await clock.advance(0.001)
        assert await store.kv_get("ns", "colour") is None
        assert await keys_in(store) == []
        assert not await store.kv_delete("ns", "colour")

    @pytest.mark.parametrize("size", [4_096, 4_097, 1_000_000])
    async def test_large_values_come_back_and_go_as_small_ones(
        self, store: Store, clock: ManualClock, size: int
    ) -> None:
        large = an_entry(value=bytes(size), metadata=b"{}", expires_at=clock.now_ms() + 1_000)
        for entry in (large, an_entry(value=b"\1" * size), an_entry(), large):
            await store.kv_put("ns", entry)
            assert await store.kv_get("ns", "colour") == entry
        await store.kv_put("ns", other := an_entry(key="other", value=b"\2" * size))
        await clock.advance(1)
        assert await store.kv_get("ns", "colour") is None
        assert (await store.sweep()).kv_entries == 1
        assert await store.kv_get("ns", "other") == other
        assert await store.kv_delete("ns", "other")
        assert await keys_in(store) == []

    async def test_expired_entries_are_swept(self, store: Store, clock: ManualClock) -> None:
        await store.kv_put("ns", an_entry(key="short", expires_at=clock.now_ms() + 1_000))
        await store.kv_put("ns", an_entry(key="long"))
        await clock.advance(1)
        assert (await store.sweep()).kv_entries == 1
        assert await keys_in(store) == ["long"]

    async def test_keys_are_listed_in_the_order_of_their_bytes(self, store: Store) -> None:
        names = ["a", "Z", "ä", "aa", "\uffee", "\U0001f600", "a b", "a%", "a_", "~"]
        for name in names:
            await store.kv_put("ns", an_entry(key=name))
        assert await keys_in(store) == sorted(names, key=str.encode)

    @pytest.mark.parametrize("prefix", ["a", "a_", "a%", "\U0001f600", "A", "x"])
    async def test_a_prefix_is_taken_by_the_letter(self, store: Store, prefix: str) -> None:
        names = ["a", "a_1", "ab1", "a%1", "A", "\U0001f600!", "b"]
        for name in names:
            await store.kv_put("ns", an_entry(key=name))
        expected = sorted((name for name in names if name.startswith(prefix)), key=str.encode)
        assert await keys_in(store, prefix=prefix) == expected

    async def test_a_list_goes_on_after_a_key(self, store: Store) -> None:
        names = [f"k{number}" for number in range(5)]
        for name in names:
            await store.kv_put("ns", an_entry(key=name))
        assert await keys_in(store, limit=2) == names[:2]
        assert await keys_in(store, after="k1") == names[2:]
        assert await keys_in(store, after="k1\x00") == names[2:]
        assert await keys_in(store, prefix="k", after="a", limit=1) == names[:1]

    async def test_a_list_tells_metadata_and_expiry(self, store: Store, clock: ManualClock) -> None:
        until = clock.now_ms() + 1_000
        await store.kv_put("ns", an_entry(metadata=b"[1]", expires_at=until))
        assert await store.kv_list("ns", prefix="", limit=9, after=None) == [
            KeyInfo(key="colour", metadata=b"[1]", expires_at=until)
        ]
