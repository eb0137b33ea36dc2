"""`conveyor keys`: made, listed, rotated."""

from __future__ import annotations

import pytest

from cli.conftest import Terminal
from conveyor.store.protocol import Store


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONVEYOR_SECRETS_KEY", "CONVEYOR_FILES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONVEYOR_ENCRYPTED", "letters, mail-*")


async def _body(store: Store) -> bytes:
    [message] = await store.peek("letters", limit=2)
    return message.body


def test_from_the_first_key_to_the_second(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.ok("queues", "create", "letters")
    assert "no keys yet" in terminal.ok("keys", "list").out
    terminal.ok("messages", "send", "letters", '{"name": "Ada"}')
    [first] = [each["id"] for each in terminal.ok("keys", "list", "--json").json]
    assert f'"sealed_with":"{first}"'.encode() in terminal.store(_body)
    assert "Ada" not in terminal.ok("messages", "peek", "letters").out
    second = terminal.ok("keys", "make", "--json").json["id"]
    assert [(each["id"], each["seals"]) for each in terminal.ok("keys", "list", "--json").json] == [
        (second, True), (first, False),
    ]  # fmt: skip
    assert terminal.ok("keys", "rotate", "--dry-run", "--json").json["messages"] == 1
    assert terminal.ok("keys", "rotate").out == "1 messages, 0 secrets and 0 webhooks are sealed anew; 0 busy, 0 locked\n"
    assert f'"sealed_with":"{second}"'.encode() in terminal.store(_body)
    assert terminal.ok("audit", "list", "--action", "keys.*", "--json").json[0]["target"] == second
    keys = terminal.folder / "conveyor.db-files" / "secrets.key"
    assert keys.stat().st_mode & 0o077 == 0
    keys.write_text(keys.read_text().split()[1])
    terminal.ok("keys", "make")
    assert "1 locked" in terminal.run("keys", "rotate").out
    assert terminal.run("keys", "rotate").code == 1
    monkeypatch.setenv("CONVEYOR_SECRETS_KEY", keys.read_text().split()[0])
    assert "openssl rand" in terminal.run("keys", "make").err
