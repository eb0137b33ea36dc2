"""Links to objects on local files, as `conveyor serve` answers them: good for one thing, for a while, for who has them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import anyio.lowlevel
import httpx2
import pytest

from conveyor import Bucket, Conveyor
from conveyor.server.objects import name_of
from conveyor.testing.clock import ManualClock
from kit.online import online
from kit.s3 import S3Server
from kit.served import BASE, Client, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app(folder: Path, clock: ManualClock) -> AsyncIterator[Conveyor]:
    async with Conveyor("shop", url="sqlite:///shop.db", clock=clock) as app:
        yield app


@pytest.fixture
async def client(app: Conveyor) -> AsyncIterator[Client]:
    async with serving(app) as client:
        yield client


@pytest.fixture
def bucket(app: Conveyor) -> Bucket:
    return app.bucket("UPLOADS")


async def test_a_link_is_good_for_whoever_has_it(bucket: Bucket, client: Client) -> None:
    await bucket.put('a/ä "x".html', b"<script>alert(1)</script>", content_type="text/html")
    url = await bucket.sign_get('a/ä "x".html')
    assert url.startswith("/api/v1/objects/UPLOADS?")
    answer = await client.ask("GET", url, None)
    assert (answer.status_code, answer.content) == (200, b"<script>alert(1)</script>")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%A4%20%22x%22.html"
    assert (answer.headers["x-content-type-options"], answer.headers["content-security-policy"][:18]) == (
        "nosniff",
        "default-src 'none'",
    )
    head = await client.ask("HEAD", url, None)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "25", b"")
    assert head.headers["etag"] == answer.headers["etag"]


async def test_a_link_ends(bucket: Bucket, client: Client, clock: ManualClock) -> None:
    await bucket.put("a", b"1")
    url = await bucket.sign_get("a", expires_in="5m")
    await clock.advance(299)
    assert (await client.ask("GET", url, None)).status_code == 200
    await clock.advance(1)
    answer = await client.ask("GET", url, None)
    assert (answer.status_code, answer.json()["code"]) == (403, "link_refused")


async def test_a_link_is_bound_to_all_that_it_says(app: Conveyor, bucket: Bucket, client: Client) -> None:
    for name in ("UPLOADS", "OTHER"):
        for key in ("a", "b"):
            await app.bucket(name).put(key, key)
    path, _, query = (await bucket.sign_get("a")).partition("?")
    given = dict(parse_qsl(query))
    put = dict(parse_qsl((await bucket.sign_put("a", size_max=5)).partition("?")[2]))
    changed = [
        (path, {**given, "key": "b"}), (path, {**given, "expires": str(int(given["expires"]) + 1)}), (path, {**given, "size_max": "9"}),
        (path, {**given, "token": given["token"][:-1]}), (path, {**given, "token": ""}), (path, {**given, "more": "x"}),
        (path, {"key": "a"}), (path, {}), (path, {**given, "token": "ä" * 43}), (path.replace("UPLOADS", "OTHER"), given),
        (path, put), (path, {**given, "token": given["token"].swapcase()}), (path, {**given, "expires": "x"}),
        (path, {**given, "key": "a\0"}), (path.replace("UPLOADS", "%2e%2e"), given), (path, {**given, "token": given["token"] + "="}),
    ]  # fmt: skip
    for where, what in changed:
        answer = await client.ask("GET", f"{where}?{urlencode(what)}", None)
        assert (answer.status_code, answer.json()["code"]) == (403, "link_refused"), what
    for method, what in (("PUT", given), ("DELETE", given), ("POST", put), ("DELETE", put)):
        answer = await client.ask(method, f"{path}?{urlencode(what)}", None, content=b"x")
        assert answer.status_code in {401, 403, 405}, (method, what)
    put["size_max"] = "500"
    assert (await client.ask("PUT", f"{path}?{urlencode(put)}", None, content=b"x")).status_code == 403
    assert (await bucket.get("a") or pytest.fail("gone")).body == b"a"


async def test_bytes_are_put_by_a_link(bucket: Bucket, client: Client) -> None:
    url = await bucket.sign_put("in/a.txt", size_max=5)
    answer = await client.ask("PUT", url, None, content=b"12345", headers={"content-type": "text/plain"})
    info = await bucket.head("in/a.txt")
    assert info is not None
    assert (answer.status_code, answer.headers["etag"]) == (200, f'"{info.etag}"')
    assert (info.size, info.content_type) == (5, "text/plain")
    assert (await client.ask("PUT", url, None, content=b"123456")).status_code == 413
    assert (await bucket.head("in/a.txt")) == info
    sum = base64.b64encode(hashlib.md5(b"1", usedforsecurity=False).digest()).decode()
    for md5, body, status in ((sum, b"1", 200), (sum, b"2", 422), ("x", b"1", 400)):
        assert (await client.ask("PUT", url, None, content=body, headers={"content-md5": md5})).status_code == status
    assert (await bucket.get("in/a.txt") or pytest.fail("gone")).body == b"1"


async def test_a_body_that_breaks_off_is_no_object(bucket: Bucket, client: Client) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    assert (await client.ask("PUT", await bucket.sign_put("a"), None, content=broken())).status_code >= 400
    assert await bucket.head("a") is None


@pytest.mark.parametrize(
    ("asked", "status", "body", "said"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("Bytes=9-9", 206, b"9", "bytes 9-9/10"),
        ("bytes=-99", 200, b"0123456789", None),
        ("bytes=0-", 200, b"0123456789", None),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=5000000000-5000000001", 416, b"", "bytes */10"),
        ("bytes=5-3", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=a-b", 200, b"0123456789", None),
        ("bytes=1-2" + "0" * 30, 200, b"0123456789", None),
    ],
)
async def test_a_part_is_served(
    bucket: Bucket, client: Client, asked: str, status: int, body: bytes, said: str | None
) -> None:
    await bucket.put("a", b"0123456789")
    answer = await client.ask("GET", await bucket.sign_get("a"), None, headers={"range": asked})
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, body, said)
    assert answer.headers["content-length"] == str(len(body))


async def test_conditions(bucket: Bucket, client: Client) -> None:
    put = await bucket.put("a", b"0123456789")
    url, etag = await bucket.sign_get("a"), f'"{put.etag}"'

    async def ask(**headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await client.ask("GET", url, None, headers=named)
        return answer.status_code, answer.content

    assert await ask(if_none_match=etag) == (304, b"")
    assert await ask(if_none_match=f'"x", W/{etag}') == (304, b"")
    assert await ask(if_none_match='"x"') == (200, b"0123456789")
    assert await ask(range="bytes=2-3", if_range=etag) == (206, b"23")
    assert await ask(range="bytes=2-3", if_range='"other"') == (200, b"0123456789")


async def test_what_is_gone_is_not_found_and_empty_is_empty(bucket: Bucket, client: Client) -> None:
    await bucket.put("a", b"")
    url = await bucket.sign_get("a")
    for headers in ({}, {"range": "bytes=0-"}):
        answer = await client.ask("GET", url, None, headers=headers)
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    await bucket.delete("a")
    assert [(await client.ask(method, url, None)).status_code for method in ("GET", "HEAD")] == [404, 404]


async def test_links_begin_with_the_public_url(bucket: Bucket, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await bucket.put("a", b"1")
    monkeypatch.setenv("CONVEYOR_PUBLIC_URL", f"{BASE}/")
    url = await bucket.sign_get("a")
    assert url.startswith(f"{BASE}/api/v1/objects/")
    assert (await client.ask("GET", url, None)).status_code == 200


async def test_another_process_reads_them_and_another_store_does_not(bucket: Bucket, folder: Path) -> None:
    await bucket.put("a", b"1")
    url = await bucket.sign_get("a")
    for store, status in (("sqlite:///shop.db", 200), ("sqlite:///other.db", 403)):
        async with Conveyor("another", url=store, clock=ManualClock()) as app, serving(app) as client:
            assert (await client.ask("GET", url, None)).status_code == status
    (folder / "shop.db-files" / "secrets.key").unlink()
    async with Conveyor("another", url="sqlite:///shop.db", clock=ManualClock()) as app, serving(app) as client:
        assert (await client.ask("GET", url, None)).status_code == 403


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        "a//b",
        "a b+c%2F?&#",
        "\u202egpj.exe",
        "x" * 1_024,
        "a\r\nset-cookie: x",
    ],
)
async def test_odd_keys_have_links(bucket: Bucket, client: Client, key: str) -> None:
    await bucket.put(key, b"1")
    answer = await client.ask("GET", await bucket.sign_get(key), None)
    assert (answer.status_code, answer.content) == (200, b"1")
    assert re.fullmatch(r"attachment; filename\*=UTF-8''[\w.%~-]{1,700}", answer.headers["content-disposition"])
    assert "set-cookie" not in answer.headers


def test_names_lead_nowhere() -> None:
    assert [name_of(key) for key in ("a/b.mp4", "..", "a\\b", "a/", "\u202egpj.exe", ".bash\n", "C:\\x\\y.txt", "\0", "///")] == [
        "b.mp4", "download", "b", "a", "gpj.exe", "bash", "y.txt", "download", "download",
    ]  # fmt: skip
    assert len(name_of("x" * 1_000 + ".mp4")) == 150


async def test_cloudflares_wire_reaches_buckets_behind_urls(folder: Path, s3: S3Server, remote: str) -> None:
    """`wrangler r2 object put|get|delete` on a bucket of this app that lies on S3."""
    async with (
        Conveyor("shop", url="sqlite:///shop.db", buckets={"clips": s3.url(remote)}) as app,
        serving(app) as client,
    ):
        base = f"/client/v4/accounts/{'a' * 32}/r2/buckets"
        listed = (await client.ask("GET", base)).json()["result"]["buckets"]
        assert [each["name"] for each in listed] == ["clips"]
        put = await client.ask(
            "PUT", f"{base}/clips/objects/{quote('a b')}.txt", content=b"hello", headers={"content-type": "text/plain"}
        )
        assert (put.status_code, put.json()["result"]["size"]) == (200, "5")
        assert s3.client.get_object(Bucket=remote, Key="a b.txt")["Body"].read() == b"hello"
        got = await client.ask("GET", f"{base}/clips/objects/{quote('a b')}.txt", headers={"range": "bytes=1-2"})
        assert (got.status_code, got.content, got.headers["content-disposition"]) == (206, b"el", "attachment")
        assert [each["key"] for each in (await client.ask("GET", f"{base}/clips/objects")).json()["result"]] == [
            "a b.txt"
        ]
        assert (await client.ask("POST", base, json={"name": "clips"})).status_code == 409
        assert (await client.ask("DELETE", f"{base}/clips")).status_code == 409
        assert (await client.ask("DELETE", f"{base}/clips/objects/{quote('a b')}.txt")).status_code == 200
        assert (await client.ask("GET", f"{base}/clips/objects/x")).status_code == 404
        assert urlsplit(await app.bucket("clips").sign_get("x")).netloc == urlsplit(s3.endpoint).netloc


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
async def test_a_player_and_an_uploader_on_a_real_socket(app: Conveyor, bucket: Bucket, folder: Path) -> None:
    """30 MB up by a link and down again, a part of its end, and a reader that leaves: no file stays open."""

    async def content() -> AsyncIterator[bytes]:
        for number in range(30):
            yield bytes([number]) * 1_000_000

    async with online(app) as base, httpx2.AsyncClient(base_url=base, trust_env=False, timeout=60) as client:
        put = await client.put(
            await bucket.sign_put("clip.mp4"), content=content(), headers={"content-type": "video/mp4"}
        )
        assert put.status_code == 200
        url = await bucket.sign_get("clip.mp4")
        size = 0
        async with client.stream("GET", url) as answer:
            async for piece in answer.aiter_bytes():
                size += len(piece)
        assert (size, answer.headers["content-type"]) == (30_000_000, "video/mp4")
        part = await client.get(url, headers={"range": "bytes=-1000001"})
        assert (part.status_code, part.content) == (206, b"\x1c" + b"\x1d" * 1_000_000)
        async with client.stream("GET", url) as answer:
            await anext(answer.aiter_bytes())  # and leaves
        async with asyncio.timeout(60):
            while opened(folder):
                await anyio.lowlevel.checkpoint()


def opened(folder: Path) -> list[str]:
    """Files of buckets that this process has open."""
    found = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [path for path in found if f"{folder}/shop.db-files/buckets/" in path]
