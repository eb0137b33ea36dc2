"""`conveyor tokens` and `conveyor audit`: a token is shown once, and whatever is done is in the trail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest

from conveyor.model.refusals import UnauthenticatedError
from conveyor.server.tokens import Tokens

if TYPE_CHECKING:
    from .conftest import Terminal


def test_a_token_is_made_and_shown_once(terminal: Terminal) -> None:
    made = terminal.ok("tokens", "create", "checkout", "--send", "--queue", "orders-*", "--expires", "90d")
    secret = next(line for line in made.out.splitlines() if line.startswith("cvy_"))
    token = terminal.store(lambda store: Tokens(store).verify(secret.encode()))
    assert (token.name, [*token.rights], token.queues) == ("checkout", ["send"], ("orders-*",))
    assert token.expires_at is not None
    assert abs(token.created_at + 90 * 86_400_000 - token.expires_at) < 60_000
    for answer in (terminal.ok("tokens", "list"), terminal.ok("tokens", "list", "--json"), terminal.ok("audit", "list", "--json")):
        assert token.id in answer.out and "cvy_" not in answer.out and "digest" not in answer.out


def test_programs_get_it_as_json(terminal: Terminal) -> None:
    made = terminal.ok("tokens", "create", "ci", "--manage", "--send", "--json").json
    assert made["token"].startswith(f"cvy_{made['id']}") and made["rights"] == ["manage", "send"]


def test_a_rotated_and_a_revoked_token(terminal: Terminal) -> None:
    old = terminal.ok("tokens", "create", "ci", "--read", "--json").json
    new = terminal.ok("tokens", "rotate", old["id"], "--overlap", "1h", "--json").json
    listed = {each["id"]: each for each in terminal.ok("tokens", "list", "--json").json}
    assert listed[old["id"]]["expires_at"] is not None and listed[new["id"]]["expires_at"] is None
    assert "within 5 s" in terminal.ok("tokens", "revoke", new["id"], "--force").out
    with pytest.raises(UnauthenticatedError):
        terminal.store(lambda store: Tokens(store).verify(new["token"].encode()))
    terminal.store(lambda store: Tokens(store).verify(old["token"].encode()))
    found = terminal.ok("audit", "list", "--json").json
    assert [each["action"] for each in found] == ["token.revoke", "token.rotate", "token.rotate", "token.create"]
    assert {each["actor"] for each in found} == {"cli"}


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["tokens", "create", "x"], 1, "at least one"),
        (["tokens", "create", "x", "--fly"], 2, ""),
        (["tokens", "create", "x", "--admin", "--queue", "a"], 1, "whole store"),
        (["tokens", "create", "x", "--send", "--expires", "soon"], 2, ""),
        (["tokens", "revoke", "nope", "--force"], 1, "no token has the id"),
        (["tokens", "rotate", "nope"], 1, "no token has the id"),
        (["audit", "verify", "--head", "x"], 2, "NUMBER:HASH"),
    ],
)
def test_what_cannot_be(terminal: Terminal, arguments: list[str], code: int, word: str) -> None:
    terminal.ok("tokens", "create", "first", "--admin")
    answer = terminal.run(*arguments)
    assert (answer.code, word in answer.err) == (code, True)


def test_a_trail_that_was_touched_is_found(terminal: Terminal) -> None:
    for name in ("a", "b", "c"):
        terminal.ok("tokens", "create", name, "--read")
    whole = terminal.ok("audit", "verify", "--json").json
    assert (whole["records"], whole["faults"]) == (3, [])
    terminal.ok("audit", "verify", "--head", whole["head"])
    connection = apsw.Connection(str(terminal.path))
    connection.execute("DELETE FROM documents WHERE kind = 'audit' AND name LIKE '%2'")
    connection.close()
    broken = terminal.run("audit", "verify")
    assert broken.code == 1 and "record 2 is missing" in broken.err
    assert terminal.run("audit", "verify", "--json").code == 1
    assert len(terminal.ok("audit", "list", "--json").json) == 2


def test_a_short_pepper_is_not_taken(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_PEPPER", "canary")
    answer = terminal.run("tokens", "create", "x", "--read")
    assert answer.code == 1 and "32 characters" in answer.err and "canary" not in answer.err
