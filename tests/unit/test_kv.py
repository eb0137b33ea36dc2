"""Named values: what goes in comes out, ends when it should, and what cannot be kept is refused at the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.kv import KEY_BYTES_MAX, KV, LIST_MAX
from conveyor.model.errors import BodyDecodeError, InvalidDurationError, InvalidKeyError, InvalidSettingError
from conveyor.testing.clock import NOON_MS, ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory://", "sqlite:///{folder}/kv.db"])
async def cache(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[KV]:
    app = Conveyor("shop", url=request.param.format(folder=tmp_path), clock=clock)
    async with app:
        yield app.kv("CACHE")


async def test_text_bytes_and_json_come_back(cache: KV) -> None:
    await cache.put("text", "blå")
    await cache.put("bytes", b"\xff\x00")
    await cache.put_json("json", {"a": [1, None]})
    assert await cache.get("text") == "blå"
    assert await cache.get_bytes("bytes") == b"\xff\x00"
    assert await cache.get_json("json") == {"a": [1, None]}
    assert await cache.get_json("json", type=dict[str, list[int | None]]) == {"a": [1, None]}
    assert [await cache.get("none"), await cache.get_bytes("none"), await cache.get_json("none")] == [None] * 3


async def test_put_replaces_all_of_an_entry(cache: KV) -> None:
    await cache.put("a", "1", ttl="1h", metadata={"by": "me"})
    await cache.put("a", "2")
    found = await cache.get_entry("a")
    assert found is not None
    assert (found.value, found.metadata, found.expires_at) == (b"2", None, None)


async def test_entry_is_gone_at_its_end(cache: KV, clock: ManualClock) -> None:
    await cache.put("a", "1", ttl="1m", metadata=[1])
    found = await cache.get_entry("a")
    assert found is not None
    assert found.expires_at == datetime.fromtimestamp(NOON_MS / 1000, UTC) + timedelta(minutes=1)
    assert found.metadata == [1]
    await clock.advance(59.999)
    assert await cache.get("a") == "1"
    await clock.advance(0.001)
    assert await cache.get("a") is None
    assert (await cache.list()).keys == []
    assert await cache.delete("a") is False


async def test_delete_says_whether_it_was_there(cache: KV) -> None:
    await cache.put("a", "1")
    assert [await cache.delete("a"), await cache.delete("a")] == [True, False]


async def test_list_goes_by_prefix_page_and_byte_order(cache: KV) -> None:
    for key in ("b1", "a3", "a1", "a2", "ä", "c"):
        await cache.put(key, key, metadata=key)
    page = await cache.list(prefix="a", limit=2)
    assert [(each.name, each.metadata) for each in page.keys] == [("a1", "a1"), ("a2", "a2")]
    assert not page.list_complete
    rest = await cache.list(prefix="a", limit=2, cursor=page.cursor)
    assert [each.name for each in rest.keys] == ["a3"]
    assert (rest.list_complete, rest.cursor) == (True, None)
    assert [each.name for each in (await cache.list()).keys] == ["a1", "a2", "a3", "b1", "c", "ä"]


async def test_prefix_is_taken_literally(cache: KV) -> None:
    for key in ("50%", "50x", "a_b", "axb", "A_b"):
        await cache.put(key, "")
    assert [each.name for each in (await cache.list(prefix="50%")).keys] == ["50%"]
    assert [each.name for each in (await cache.list(prefix="a_")).keys] == ["a_b"]


@pytest.mark.parametrize("key", ["", ".", "..", "x" * (KEY_BYTES_MAX + 1), "ä" * 257, "\ud800", "a\0b", None, 3])
async def test_bad_key_is_refused(cache: KV, key: Any) -> None:
    for use in (cache.get(key), cache.put(key, "x"), cache.delete(key)):
        with pytest.raises(InvalidKeyError):
            await use


@pytest.mark.parametrize("value", [5, None, ["a"], "\ud800", b"x" * (25 * 1024 * 1024 + 1)])
async def test_bad_value_is_refused(cache: KV, value: Any) -> None:
    with pytest.raises(InvalidKeyError):
        await cache.put("a", value)
    assert await cache.get("a") is None


@pytest.mark.parametrize("metadata", ["x" * 1_024, float("nan"), object()])
async def test_bad_metadata_is_refused(cache: KV, metadata: object) -> None:
    with pytest.raises(InvalidKeyError):
        await cache.put("a", "1", metadata=metadata)


async def test_nan_has_no_json_form(cache: KV) -> None:
    with pytest.raises(InvalidKeyError):
        await cache.put_json("a", {"x": float("nan")})


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), "soon", timedelta(days=4_000)])
async def test_bad_ttl_is_refused(cache: KV, ttl: Any) -> None:
    with pytest.raises(InvalidDurationError):
        await cache.put("a", "1", ttl=ttl)


@pytest.mark.parametrize("limit", [0, -1, LIST_MAX + 1])
async def test_bad_limit_is_refused(cache: KV, limit: int) -> None:
    with pytest.raises(InvalidKeyError):
        await cache.list(limit=limit)


async def test_what_does_not_fit_says_so(cache: KV) -> None:
    await cache.put("a", b"\xff")
    with pytest.raises(BodyDecodeError):
        await cache.get("a")
    with pytest.raises(BodyDecodeError):
        await cache.get_json("a")
    await cache.put_json("b", "text")
    with pytest.raises(BodyDecodeError, match="int"):
        await cache.get_json("b", type=int)


async def test_namespaces_are_apart_and_have_names() -> None:
    app = Conveyor("shop", url="memory://")
    async with app:
        await app.kv("A").put("k", "1")
        assert await app.kv("B").get("k") is None
    with pytest.raises(InvalidSettingError):
        app.kv("")
