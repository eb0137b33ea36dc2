"""Tokens: nobody can read them anywhere, and they end when they are told to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conveyor import Conveyor
from conveyor.model.clock import SystemClock
from conveyor.model.errors import ConflictError, InvalidSettingError, NotFoundError, StoreBusyError
from conveyor.model.refusals import UnauthenticatedError
from conveyor.server import tokens as room
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rights import Caller, Right
from conveyor.server.tokens import Doorman, Secret, Token, Tokens, read_environment, read_token_id
from conveyor.testing.clock import ManualClock
from kit.served import ADMIN, a_token, bytes_in, client_of, make_wire

pytestmark = pytest.mark.anyio

PEPPER = "a pepper of thirty-two characters"


async def who(call: Call) -> Answer:
    return Answer.json({"token": call.caller.token_id, "address": call.caller.address})


WHO = Endpoint(method="GET", path="/who", right=Right.READ, handle=who)


async def make(app: Conveyor, *rights: Right, **given: object) -> tuple[Token, Secret]:
    return await Tokens(app.store).create("test", frozenset(rights), created_by="a test", **given)  # type: ignore[arg-type]  # settings by name


async def test_a_token_has_its_form_and_is_known_by_it(app: Conveyor) -> None:
    token, secret = await make(app, Right.SEND)
    assert secret.startswith(f"cvy_{token.id}") and len(secret) == 4 + 16 + 64 + 8
    assert read_token_id(secret.encode()) == token.id
    assert (await Tokens(app.store).verify(secret.encode())).id == token.id
    others = {(await make(app, Right.SEND))[1] for _ in range(20)}
    assert len(others | {secret}) == 21


@pytest.mark.parametrize("change", ["last", "secret", "id", "short", "long", "empty", "other", "wide", "upper"])
async def test_what_is_not_a_token_is_refused_in_the_same_words(app: Conveyor, change: str) -> None:
    _, secret = await make(app, Right.SEND)
    wrong = secret[:30] + ("0" if secret[30] != "0" else "1") + secret[31:]
    bare = wrong[:-8]
    forms = {
        "last": secret[:-1] + ("0" if secret[-1] != "0" else "1"),
        "secret": bare + room._checksum(bare),
        "id": (other := f"cvy_{'0' * 16}{secret[20:-8]}") + room._checksum(other),
        "short": secret[:-1],
        "long": secret + "0",
        "empty": "",
        "other": "sk_" + secret,
        "wide": secret[:-1] + "é",
        "upper": secret.upper(),
    }
    with pytest.raises(UnauthenticatedError) as refused:
        await Tokens(app.store).verify(forms[change].encode())
    assert str(refused.value) == str(UnauthenticatedError())


async def test_the_store_and_its_backup_hold_no_token(app: Conveyor, tmp_path: Path) -> None:
    made = [(await make(app, Right.SEND))[1], (await Tokens(app.store, pepper=PEPPER).create("p", frozenset(Right), created_by="t"))[1]]
    await Tokens(app.store).verify(made[0].encode())
    files = bytes_in(tmp_path)
    assert b'"digest"' in files, "the tokens are there"
    for secret in made:
        assert secret[20:84].encode() not in files
        assert str(secret) not in repr(secret) and str(secret) not in f"{[secret]}"
    for document in await app.store.list_documents(room.KIND, limit=9):
        assert b"cvy_" not in document.body


async def test_what_is_shown_of_a_token_has_no_digest(app: Conveyor) -> None:
    token, _ = await make(app, Right.SEND)
    for shown in (token, await Tokens(app.store).get(token.id), *await Tokens(app.store).list()):
        assert type(shown) is Token and "digest" not in repr(shown)


async def test_a_pepper_is_needed_to_check(app: Conveyor) -> None:
    token, secret = await Tokens(app.store, pepper=PEPPER).create("p", frozenset({Right.SEND}), created_by="t")
    assert (await Tokens(app.store, pepper=PEPPER).verify(secret.encode())).id == token.id
    for other in (None, PEPPER[::-1]):
        with pytest.raises(UnauthenticatedError):
            await Tokens(app.store, pepper=other).verify(secret.encode())
    _, plain = await make(app, Right.SEND)
    await Tokens(app.store, pepper=PEPPER).verify(plain.encode())


async def test_a_token_ends_when_it_expires(app: Conveyor, clock: ManualClock) -> None:
    _, secret = await make(app, Right.READ, expires_at=clock.now_ms() + 10_000)
    async with client_of(make_wire(app, [WHO])) as client:
        assert (await client.ask("GET", "/x/who", secret)).status_code == 200
        await clock.advance(9.999)
        assert (await client.ask("GET", "/x/who", secret)).status_code == 200
        await clock.advance(0.001)
        assert (await client.ask("GET", "/x/who", secret)).status_code == 401
    with pytest.raises(InvalidSettingError, match="over already"):
        await make(app, Right.READ, expires_at=clock.now_ms())


async def test_a_revoked_token_is_refused_within_five_seconds(app: Conveyor, clock: ManualClock) -> None:
    token, secret = await make(app, Right.READ)
    async with client_of(make_wire(app, [WHO])) as client:
        assert (await client.ask("GET", "/x/who", secret)).json()["token"] == token.id
        await clock.advance(1)
        await Tokens(app.store).revoke(token.id)
        await clock.advance(5)
        assert (await client.ask("GET", "/x/who", secret)).status_code == 401
    with pytest.raises(NotFoundError):
        await Tokens(app.store).revoke(token.id)


async def test_a_busy_token_that_was_revoked_is_refused_within_five_seconds(app: Conveyor, clock: ManualClock) -> None:
    """The look that is under way beside its requests comes upon it."""
    token, secret = await make(app, Right.READ)
    wire = make_wire(app, [WHO])
    async with client_of(wire) as client:
        await client.ask("GET", "/x/who", secret)
        await Tokens(app.store).revoke(token.id)
        statuses = []
        for _ in range(50):
            await clock.advance(0.1)
            while wire._gate._doorman._asking:
                await SystemClock().sleep(0.001)  # the writer's thread answers
            statuses.append((await client.ask("GET", "/x/who", secret)).status_code)
    assert set(statuses) == {200, 401, 429} and statuses[-1] == 429, "and tried too often after that"


class Counted:
    """A store that counts what it is asked for."""

    def __init__(self, app: Conveyor) -> None:
        self._store = app.store
        self.looks = 0
        self.error: Exception | None = None

    async def get_document(self, kind: str, name: str) -> object:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return await self._store.get_document(kind, name)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_a_known_token_waits_for_no_store(app: Conveyor, clock: ManualClock) -> None:
    _, secret = await make(app, Right.READ)
    store = Counted(app)
    doorman = Doorman(Tokens(store), store)  # type: ignore[arg-type]  # it stands for a store
    assert doorman.recall(secret.encode(), "a") is None
    await doorman.look_up(secret.encode(), "a")
    for _ in range(1_000):
        assert isinstance(doorman.recall(secret.encode(), "a"), Caller)
    assert store.looks == 1
    await clock.advance(room.FRESH_S)
    assert doorman.recall(secret.encode(), "a") is not None and doorman.recall(secret.encode(), "a") is not None
    while doorman._asking:
        await SystemClock().sleep(0.001)
    assert store.looks == 2, "one look, beside the requests"


async def test_many_strangers_at_once_ask_the_store_once(app: Conveyor) -> None:
    _, secret = await make(app, Right.READ)
    store = Counted(app)
    doorman = Doorman(Tokens(store), store)  # type: ignore[arg-type]  # as much of a store as it asks
    callers = await asyncio.gather(*(doorman.look_up(secret.encode(), str(n)) for n in range(50)))
    assert store.looks == 1
    assert [each.address for each in callers] == [str(n) for n in range(50)]


async def test_a_store_that_is_away_keeps_known_tokens_for_a_while_and_lets_nobody_else_in(
    app: Conveyor, clock: ManualClock
) -> None:
    _, secret = await make(app, Right.READ)
    store = Counted(app)
    doorman = Doorman(Tokens(store), store)  # type: ignore[arg-type]  # as much of a store as it asks
    await doorman.look_up(secret.encode(), "a")
    store.error = StoreBusyError("here")
    await clock.advance(room.FRESH_S)
    assert doorman.recall(secret.encode(), "a") is not None
    await clock.advance(room.STALE_S - room.FRESH_S)
    assert doorman.recall(secret.encode(), "a") is None
    with pytest.raises(StoreBusyError):
        await doorman.look_up(secret.encode(), "a")


async def test_rotation_overlaps(app: Conveyor, clock: ManualClock) -> None:
    tokens = Tokens(app.store)
    old, first = await make(app, Right.READ, queues=("jobs",), expires_at=clock.now_ms() + 100_000)
    await clock.advance(50)
    new, second = await tokens.rotate(old.id, overlap_ms=10_000, created_by="somebody")
    assert (new.rights, new.queues, new.name, new.created_by) == (old.rights, old.queues, old.name, "somebody")
    assert new.expires_at == clock.now_ms() + 100_000
    for secret in (first, second):
        await tokens.verify(secret.encode())
    await clock.advance(10)
    await tokens.verify(second.encode())
    with pytest.raises(UnauthenticatedError):
        await tokens.verify(first.encode())


async def test_rotation_never_makes_a_token_live_longer(app: Conveyor, clock: ManualClock) -> None:
    old, _ = await make(app, Right.READ, expires_at=clock.now_ms() + 1_000)
    await Tokens(app.store).rotate(old.id, overlap_ms=10**9, created_by="t")
    assert (await Tokens(app.store).get(old.id)).expires_at == old.expires_at


async def test_last_use_is_kept_by_the_minute(app: Conveyor, clock: ManualClock) -> None:
    tokens = Tokens(app.store)
    token, secret = await make(app, Right.READ)
    assert token.last_used_at is None
    await tokens.verify(secret.encode())
    used = clock.now_ms()
    await clock.advance(59)
    await tokens.verify(secret.encode())
    assert (await tokens.get(token.id)).last_used_at == used
    await clock.advance(1)
    await tokens.verify(secret.encode())
    assert (await tokens.get(token.id)).last_used_at == used + 60_000


async def test_there_are_only_so_many(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TOKENS_MAX", 2)
    await make(app, Right.READ)
    await make(app, Right.READ)
    with pytest.raises(ConflictError, match="2 tokens already"):
        await make(app, Right.READ)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"rights": frozenset()}, "at least one"),
        ({"queues": ()}, "patterns"),
        ({"queues": ("(a+)+$",)}, "no pattern"),
        ({"queues": ("a" * 65,)}, "no pattern"),
        ({"queues": ("a",) * 101}, "patterns"),
        ({"queues": ("a",), "rights": frozenset({Right.ADMIN})}, "whole store"),
    ],
)
async def test_what_cannot_be_is_refused(app: Conveyor, given: dict[str, object], word: str) -> None:
    wanted = {"name": "t", "rights": frozenset({Right.READ}), "created_by": "t"} | given
    with pytest.raises(InvalidSettingError, match=word):
        await Tokens(app.store).create(**wanted)  # type: ignore[arg-type]  # settings by name


@pytest.mark.parametrize("name", ["CONVEYOR_TOKEN", "CONVEYOR_PEPPER"])
def test_a_short_secret_in_the_environment_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "canary-of-31-characters-exactly"[:31])
    with pytest.raises(InvalidSettingError, match="32 characters") as refused:
        read_environment()
    assert "canary" not in str(refused.value) and "canary" not in repr(refused.value.facts)
    monkeypatch.setenv(name, "x" * 32)
    assert "x" * 32 in read_environment()


async def test_the_environments_token_is_good_for_everything_and_in_no_store(app: Conveyor, tmp_path: Path) -> None:
    async with client_of(make_wire(app, [WHO])) as client:
        answer = await client.ask("GET", "/x/who", ADMIN)
        assert answer.json() == {"token": "environment", "address": "127.0.0.1"}
        old_style = await client.ask("GET", "/x/who", None, headers={"x-auth-key": ADMIN, "x-auth-email": "me@example.com"})
        assert old_style.status_code == 200
        for headers in ({"x-auth-key": ADMIN}, {"authorization": f"Basic {ADMIN}"}, {"authorization": ADMIN}, {}):
            assert (await client.ask("GET", "/x/who", None, headers=headers)).status_code == 401
    assert await Tokens(app.store).list() == []


async def test_no_token_in_a_url_is_taken(app: Conveyor) -> None:
    secret = await a_token(app, Right.READ)
    async with client_of(make_wire(app, [WHO])) as client:
        for name in ("token", "access_token", "authorization"):
            assert (await client.ask("GET", f"/x/who?{name}={secret}", None)).status_code == 401
