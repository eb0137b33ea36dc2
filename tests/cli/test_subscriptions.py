"""`conveyor queues subscription` on a store; tests/remote drives the same over HTTP, and tests/wire wrangler's own."""

from __future__ import annotations

from typing import Any

from .conftest import Answer, Terminal


def asked(terminal: Terminal, *arguments: str) -> Any:
    return terminal.ok("queues", "subscription", *arguments, "--json").json


def refused(terminal: Terminal, *arguments: str) -> str:
    answer: Answer = terminal.run("queues", "subscription", *arguments)
    assert answer.code == 1
    return answer.err


def test_a_subscription_lives_its_life(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "heard")
    events = ("--source", "kv", "--events", "namespace.created, cf.kv.namespace.deleted")
    made = asked(terminal, "create", "heard", *events, "--name", "all")
    assert (made["events"], made["enabled"], made["queue"]) == ("namespace.created,namespace.deleted", True, "heard")
    one = ("heard", "--id", made["id"])
    assert asked(terminal, "list", "heard") == [made]
    assert asked(terminal, "get", *one) == made
    changed = asked(terminal, "update", *one, "--name", "some", "--enabled", "false")
    assert changed == made | {"name": "some", "enabled": False}
    assert "multiple subscriptions" in refused(terminal, "create", "heard", *events)
    assert "Unrecognized" in refused(terminal, "update", *one, "--events", "tea.ready")
    terminal.ok("queues", "create", "deaf")
    assert "No subscription" in refused(terminal, "get", "deaf", "--id", made["id"])
    asked(terminal, "delete", *one, "--force")
    assert asked(terminal, "list", "heard") == []
