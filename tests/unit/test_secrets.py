"""Secrets at rest: sealed, bound to their place, opened by whoever holds the key, and shown to nobody."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from conveyor import Conveyor
from conveyor.model.errors import InvalidKeyError, InvalidSettingError, StoreClosedError
from conveyor.secrets import SECRETS, Keys, Sealed, delete_secret, put_secret, read_secrets

pytestmark = pytest.mark.anyio

CANARY = "canary-91d2-never-shown"
FIRST, SECOND = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONVEYOR_SECRETS_KEY", raising=False)
    return tmp_path


@pytest.fixture
async def app(folder: Path) -> AsyncIterator[Conveyor]:
    async with Conveyor("shop", url="sqlite:///shop.db") as app:
        yield app


def keys(app: Conveyor) -> Keys:
    return Keys(app.bindings.folder)


def holding(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_an_app_reads_its_own_from_its_start_on(app: Conveyor, folder: Path) -> None:
    await put_secret(app.store, keys(app), "shop", "KEY", CANARY)
    await put_secret(app.store, keys(app), "shop2", "OTHER", "x")
    assert dict(app.secrets) == {}
    await app.secrets.refresh()
    assert dict(app.secrets) == {"KEY": CANARY}
    async with Conveyor("shop", url="sqlite:///shop.db") as another:
        assert (another.secrets["KEY"], len(another.secrets), "NONE" in another.secrets) == (CANARY, 1, False)
        with pytest.raises(KeyError, match="NONE"):
            another.secrets["NONE"]
    assert await delete_secret(app.store, "shop", "KEY")
    assert await read_secrets(app.store, "shop") == {}


async def test_before_the_store_is_open_nobody_takes_a_secret_for_missing(folder: Path) -> None:
    with pytest.raises(StoreClosedError):
        Conveyor("shop", url="sqlite:///shop.db").secrets["KEY"]


async def test_nothing_that_is_kept_or_shown_holds_the_text(app: Conveyor, folder: Path) -> None:
    await put_secret(app.store, keys(app), "shop", "KEY", CANARY)
    await app.secrets.refresh()
    assert not holding(folder, CANARY)
    assert CANARY not in repr(app.secrets) + repr(await read_secrets(app.store, "shop"))


async def test_the_same_text_is_sealed_otherwise_each_time(app: Conveyor) -> None:
    await put_secret(app.store, keys(app), "shop", "A", CANARY)
    await put_secret(app.store, keys(app), "shop", "B", CANARY)
    found = await read_secrets(app.store, "shop")
    assert found["A"].sealed != found["B"].sealed
    assert found["A"].nonce != found["B"].nonce


async def test_the_key_lies_in_a_file_that_only_its_owner_reads(app: Conveyor, folder: Path) -> None:
    await put_secret(app.store, keys(app), "shop", "KEY", CANARY)
    path = folder / "shop.db-files" / "secrets.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["secrets.key"]
    path.chmod(0o640)
    with pytest.raises(InvalidSettingError, match="chmod 600"):
        await put_secret(app.store, keys(app), "shop", "KEY", CANARY)


async def test_what_is_put_in_anothers_place_does_not_open(app: Conveyor) -> None:
    await put_secret(app.store, keys(app), "other", "KEY", CANARY)
    stolen = (await read_secrets(app.store, "other"))["KEY"]
    await app.store.put_document(SECRETS, "shop/KEY", msgspec.json.encode(stolen))
    await app.secrets.refresh()
    with pytest.raises(InvalidSettingError, match="another's"):
        app.secrets["KEY"]


async def test_one_changed_bit_is_seen(app: Conveyor) -> None:
    await put_secret(app.store, keys(app), "shop", "KEY", CANARY)
    sealed = (await read_secrets(app.store, "shop"))["KEY"]
    for bent in (
        msgspec.structs.replace(sealed, sealed=bytes([sealed.sealed[0] ^ 1]) + sealed.sealed[1:]),
        msgspec.structs.replace(sealed, nonce=bytes([sealed.nonce[0] ^ 1]) + sealed.nonce[1:]),
    ):
        with pytest.raises(InvalidSettingError, match="changed"):
            keys(app).open("shop/KEY", bent)


async def test_keys_are_turned_over_one_after_the_other(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_SECRETS_KEY", FIRST)
    await put_secret(app.store, keys(app), "shop", "OLD", "1")
    monkeypatch.setenv("CONVEYOR_SECRETS_KEY", f"{SECOND}, {FIRST}")
    await put_secret(app.store, keys(app), "shop", "NEW", "2")
    found = await read_secrets(app.store, "shop")
    assert [keys(app).open(f"shop/{name}", found[name]) for name in ("OLD", "NEW")] == ["1", "2"]
    monkeypatch.setenv("CONVEYOR_SECRETS_KEY", SECOND)
    assert keys(app).open("shop/NEW", found["NEW"]) == "2"
    with pytest.raises(InvalidSettingError, match=found["OLD"].key_id):
        keys(app).open("shop/OLD", found["OLD"])


@pytest.mark.parametrize("is_first", [True, False])
def test_keys_that_are_made_at_once_are_all_kept(folder: Path, is_first: bool) -> None:
    here = Keys(lambda: folder / "keys")
    before = [] if is_first else here.add().split()
    with ThreadPoolExecutor(8) as pool:  # each opens the file by itself, as a process does
        uses = [pool.submit(Keys(lambda: folder / "keys").derive, b"x") for _ in range(2)]
        made = [each.result() for each in [pool.submit(Keys(lambda: folder / "keys").add) for _ in range(24)]]
        assert {len(each.result()[0]) for each in uses} == {32}
    kept = list(here.ids)
    by_themselves = set(kept) - {*made, *before}
    assert len(made) == len(set(made)) == len(set(kept) & set(made)), "each says which it made, and it is there"
    assert len(by_themselves) <= is_first, "what was used before there was one"
    assert [each.name for each in (folder / "keys").iterdir()] == ["secrets.key"]


async def test_without_its_key_a_secret_says_which_one_it_needs(app: Conveyor) -> None:
    with pytest.raises(InvalidSettingError, match="0123456789abcdef"):
        keys(app).open("shop/KEY", Sealed(key_id="0123456789abcdef", nonce=b"0" * 12, sealed=b"1" * 20))


@pytest.mark.parametrize("text", ["short", base64.b64encode(bytes(range(16))).decode(), "ä" * 44, CANARY])
async def test_a_bad_key_is_refused_and_not_repeated(app: Conveyor, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_SECRETS_KEY", text)
    with pytest.raises(InvalidSettingError, match="openssl rand") as caught:
        await put_secret(app.store, keys(app), "shop", "KEY", "x")
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"), [("", "x"), ("a\nb", "x"), ("a" * 256, "x"), ("A", "\ud800"), ("A", CANARY * 300)]
)
async def test_what_cannot_be_kept_is_refused_and_not_repeated(app: Conveyor, name: str, text: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        await put_secret(app.store, keys(app), "shop", name, text)
    assert CANARY not in str(caught.value)
    assert await read_secrets(app.store, "shop") == {}
