"""What is S3's own: parts taken back, refusals without secrets, URLs, links that S3 answers, keys it cannot have."""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor import Bucket, Conveyor
from conveyor.blobs.address import read_address
from conveyor.blobs.s3 import PART_BYTES
from conveyor.model.beside import BucketAwayError
from conveyor.model.errors import InvalidKeyError, InvalidSettingError, StoreUnsupportedError
from kit.s3 import KEY, SECRET, S3Server

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(s3: S3Server, remote: str) -> AsyncIterator[Conveyor]:
    async with Conveyor("shop", url="memory://", buckets={"UPLOADS": s3.url(remote)}) as app:
        yield app


@pytest.fixture
def bucket(app: Conveyor) -> Bucket:
    return app.bucket("UPLOADS")


def open_uploads(s3: S3Server, remote: str) -> list[Any]:
    found: list[Any] = s3.client.list_multipart_uploads(Bucket=remote).get("Uploads", [])
    return found


async def test_others_read_what_we_wrote_and_we_what_they_did(bucket: Bucket, s3: S3Server, remote: str) -> None:
    await bucket.put("a b/ä.txt", b"ours", content_type="text/plain", metadata={"by": "me", "name": "Jürgen"})
    found = s3.client.get_object(Bucket=remote, Key="a b/ä.txt")
    assert (found["Body"].read(), found["ContentType"], found["ContentDisposition"]) == (
        b"ours",
        "text/plain",
        "attachment",
    )
    assert found["Metadata"]["by"] == "me"
    s3.client.put_object(
        Bucket=remote,
        Key="theirs",
        Body=b"x",
        ContentType="image/png",
        Metadata={"a": "100% b"},
        CacheControl="no-store",
    )
    info = await bucket.head("theirs")
    assert info is not None
    assert (info.content_type, info.metadata, info.sha256) == ("image/png", {"a": "100% b"}, None)


@pytest.mark.parametrize("end", ["fails", "is cancelled", "is too large", "is not what was announced"])
async def test_parts_are_taken_back(bucket: Bucket, s3: S3Server, remote: str, end: str) -> None:
    begun = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * PART_BYTES
        begun.set()
        if end == "fails":
            raise ConnectionResetError
        if end == "is cancelled":
            await asyncio.Event().wait()

    more: dict[str, dict[str, Any]] = {
        "is too large": {"size_max": 3 * PART_BYTES - 1}, "is not what was announced": {"sha256": "0" * 64},
    }  # fmt: skip
    task = asyncio.create_task(bucket.put("a", content(), **more.get(end, {})))
    if end == "is cancelled":
        await begun.wait()
        task.cancel()
    result = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(result, BaseException)
    asked = [line for line in s3.asked() if f"/{remote}/a?" in line]
    assert [line for line in asked if "?uploads" in line], "nothing was begun, so nothing was taken back"
    assert [line for line in asked if line.startswith("DELETE")]
    assert open_uploads(s3, remote) == []
    assert "Contents" not in s3.client.list_objects_v2(Bucket=remote)


async def test_a_large_object_goes_in_parts_of_one_size(bucket: Bucket, s3: S3Server, remote: str) -> None:
    """As R2 wants it."""

    async def content() -> AsyncIterator[bytes]:
        for _ in range(21):
            yield b"x" * 1_000_003

    put = await bucket.put("a", content())
    sizes = [s3.client.head_object(Bucket=remote, Key="a", PartNumber=number)["ContentLength"] for number in (1, 2, 3)]
    assert sizes == [PART_BYTES, PART_BYTES, put.size - 2 * PART_BYTES]


async def test_links_are_the_servers_own(bucket: Bucket, s3: S3Server) -> None:
    await bucket.put("a b/ä+%.html", b"<script>", content_type="text/html")
    url = await bucket.sign_get("a b/ä+%.html", expires_in="5m")
    assert SECRET not in url
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.get(url)
        assert (answer.content, answer.headers["content-disposition"]) == (b"<script>", "attachment")
        part = await client.get(url, headers={"range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"scr")
        to = await bucket.sign_put("up/new.bin")
        assert (await client.put(to, content=b"new")).status_code == 200
    assert (await bucket.get("up/new.bin") or pytest.fail("gone")).body == b"new"
    with pytest.raises(InvalidSettingError, match="no bound"):
        await bucket.sign_put("a", size_max=5)


@pytest.mark.parametrize("key", ["/a", "a/", "a//b", ".", "..", "../x", "a/../b", "a/./b", "a\nb", "\x7f", "/"])
async def test_what_s3s_client_cannot_name_is_refused(bucket: Bucket, key: str) -> None:
    for call in (
        bucket.put(key, b""),
        bucket.get(key),
        bucket.head(key),
        bucket.delete(key),
        bucket.copy("a", key),
        bucket.sign_get(key),
    ):
        with pytest.raises(InvalidKeyError):
            await call
    assert (await bucket.list(prefix=key)).objects == []


async def test_a_key_of_others_that_we_cannot_name_is_told_of(bucket: Bucket, s3: S3Server, remote: str) -> None:
    s3.client.put_object(Bucket=remote, Key="odd//b", Body=b"")
    with pytest.raises(BucketAwayError, match="empty part"):
        await bucket.list()


def told(error: BaseException) -> str:
    """All that a log could have of it."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


async def test_nothing_that_fails_tells_a_secret(s3: S3Server, remote: str, unused_port: int) -> None:
    away = s3.url(remote).replace(s3.endpoint, f"http://127.0.0.1:{unused_port}")
    buckets = {"AWAY": away, "NONE": s3.url("no-such-bucket")}
    async with Conveyor("shop", url="memory://", buckets=buckets) as app:
        for name in buckets:
            bucket: Any = app.bucket(name)
            bucket._backend._remote = _impatient(bucket._backend)
            for call in (
                bucket.put("a", b"x" * 9_000_000),
                bucket.put("a", b"x"),
                bucket.list(),
                bucket.copy("a", "b"),
            ):
                with pytest.raises(BucketAwayError) as caught:
                    await call
                assert KEY not in told(caught.value)
                assert SECRET not in told(caught.value)
                assert caught.value.hint
            assert SECRET not in repr(bucket._backend) + repr(vars(bucket._backend))


def _impatient(backend: Any) -> Any:
    from obstore.store import S3Store

    given: dict[str, Any] = {name: value for name, value in backend._remote.config.items() if name != "bucket"}
    bucket = backend._remote.config["bucket"]
    return S3Store(bucket, client_options={"allow_http": True}, retry_config={"max_retries": 0}, **given)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"s4://{KEY}:{SECRET}@b", "neither"),
        (f"s3://{KEY}:hush@bucket?regoin=x", "regoin"),
        ("s3://bucket?endpoint=ftp://x", "endpoint"),
        ("s3://bucket?endpoint=http://user:hush@x", "endpoint"),
        ("s3://bucket?virtual_hosted=yes", "virtual_hosted"),
        ("s3://hush@bucket", "one of"),
        ("s3://:hush@bucket", "one of"),
        ("s3://", "no bucket"),
        ("s3://a", "no bucket"),
        ("s3://../x", "no bucket"),
        ("r2://account/bucket", "no account"),
        (f"r2://{'a' * 32}", "no bucket"),
        (f"r2://{'a' * 32}/bucket?jurisdiction=moon", "jurisdiction"),
        ("s3://[::1", "no bucket"),
        ("s3://bucket?hush", "no URL"),
        ("s3://a/hush@?region=x", "one of"),
        ("", "neither"),
    ],
)
def test_a_url_that_cannot_be_is_refused_without_its_secrets(url: str, problem: str) -> None:
    with pytest.raises(InvalidSettingError, match=problem) as caught:
        read_address("UPLOADS", url)
    assert "hush" not in told(caught.value)
    assert SECRET not in told(caught.value)


def test_a_table_that_cannot_be_is_refused_without_its_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Any = {"A": "s3://k:hush@clips", "B": 5}
    tries: list[Any] = [lambda: Conveyor("shop", url="memory://", buckets=wrong).bucket("A")]
    (folder / "pyproject.toml").write_text('[tool.conveyor.buckets]\nA = "s3://k:hush@clips"\nB = 5\n')
    tries.append(lambda: Conveyor("shop", url="memory://").bucket("A"))
    for each in tries:
        with pytest.raises(InvalidSettingError) as caught:
            each()
        assert "hush" not in told(caught.value)
    monkeypatch.setenv("CONVEYOR_BUCKETS", '{"A": "s3://k:hush@clips", "B": 5}')
    with pytest.raises(InvalidSettingError) as caught:
        Conveyor("shop", url="memory://").bucket("A")
    assert "hush" not in told(caught.value)


def test_urls_say_where_a_bucket_is() -> None:
    account = "0123456789abcdef" * 2
    for url, endpoint in (
        (f"r2://{account}/clips", f"https://{account}.r2.cloudflarestorage.com"),
        (f"r2://k:s%2F@{account}/clips/in/here?jurisdiction=eu", f"https://{account}.eu.r2.cloudflarestorage.com"),
    ):
        address = read_address("A", url)
        assert (address.bucket, address.options["endpoint"], address.options["region"]) == ("clips", endpoint, "auto")
    assert (address.prefix, address.options["access_key_id"], address.options["secret_access_key"]) == (
        "in/here",
        "k",
        "s/",
    )
    raw = read_address("A", f"s3://{KEY}:{SECRET}@clips/in?region=x")  # as `${...}` puts it there
    assert (raw.bucket, raw.prefix, raw.options["secret_access_key"]) == ("clips", "in", SECRET)
    plain = read_address("A", "s3://clips?endpoint=http://127.0.0.1:9000/&virtual_hosted=1")
    assert (plain.is_plain, plain.options) == (
        True, {"endpoint": "http://127.0.0.1:9000", "region": "us-east-1", "virtual_hosted_style_request": True},
    )  # fmt: skip
    assert read_address("A", "s3://clips?region=eu-central-1").options == {"region": "eu-central-1"}


async def test_the_settings_name_urls(s3: S3Server, remote: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python before the environment before the file; a binding stands for its bucket; `${...}` is the environment's."""
    s3.client.create_bucket(Bucket=f"{remote}-2")
    monkeypatch.setenv("S3_KEY", KEY)
    monkeypatch.setenv("S3_SECRET", "s")
    rest = f"?endpoint={s3.endpoint}"
    (folder / "pyproject.toml").write_text(
        f'[tool.conveyor.buckets]\nCLIPS = "s3://${{S3_KEY}}:${{S3_SECRET}}@{remote}{rest}"\n', encoding="utf-8"
    )
    (folder / "wrangler.toml").write_text('name = "shop"\n[[r2_buckets]]\nbinding = "CLIPS"\nbucket_name = "clips"\n')
    async with Conveyor("shop", url="memory://") as app:
        await app.bucket("CLIPS").put("a", b"file")
        assert await app.bucket("clips").head("a") is not None
        await app.bucket("OTHER").put("a", b"local")
    assert s3.client.get_object(Bucket=remote, Key="a")["Body"].read() == b"file"
    monkeypatch.setenv("CONVEYOR_BUCKETS", f'{{"clips": "s3://k:s@{remote}-2{rest}"}}')
    async with Conveyor("shop", url="memory://") as app:
        assert await app.bucket("CLIPS").head("a") is None
    async with Conveyor("shop", url="memory://", buckets={}) as app:
        assert "FileBackend" in repr(app.bucket("CLIPS")._backend)
    app = Conveyor("shop", url="memory://", buckets={"CLIPS": "s3://k:hush@${NOWHERE}"})
    with pytest.raises(InvalidSettingError, match="NOWHERE") as caught:
        app.bucket("CLIPS")
    assert "hush" not in told(caught.value)


async def test_a_kit_stays_away_from_it(s3: S3Server, remote: str) -> None:
    app = Conveyor("shop", url="memory://", buckets={"UPLOADS": s3.url(remote)})
    async with app.testing():
        await app.bucket("UPLOADS").put("a", b"1")
    assert "Contents" not in s3.client.list_objects_v2(Bucket=remote)


def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "conveyor.blobs.s3", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreUnsupportedError, match=r"conveyor\[s3\]"):
        Conveyor("shop", url="memory://", buckets={"A": "s3://clips"}).bucket("A")


async def test_sums_of_parts_are_known_where_they_were_told(bucket: Bucket) -> None:
    body = b"x" * (PART_BYTES + 1)
    sum = hashlib.sha256(body).hexdigest()
    assert (await bucket.put("told", body, sha256=sum)).sha256 == sum
    assert (await bucket.put("untold", body)).sha256 == sum
    assert [(await bucket.head(key) or pytest.fail(key)).sha256 for key in ("told", "untold")] == [sum, None]
