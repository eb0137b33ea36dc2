"""What is done in a shell is in the audit trail: by whom, when, and what it was before and after."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Any

import pytest

from conveyor.audit.trail import Audit
from conveyor.model.errors import ConflictError
from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.model.settings import ConsumerSettings
from conveyor.store.protocol import Store
from conveyor.store.records import ScheduleDraft

from .test_jobs import fill

if TYPE_CHECKING:
    from .conftest import Terminal

PEPPER = "a pepper of thirty-two characters"


def trail(terminal: Terminal, *arguments: str) -> list[dict[str, Any]]:
    """The oldest first."""
    found: list[dict[str, Any]] = terminal.ok("audit", "list", "--json", *arguments).json
    return found[::-1]


def test_who_renamed_a_queue(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "orders")
    terminal.ok("queues", "rename", "orders", "sales")
    terminal.ok("queues", "rename", "sales", "deals")
    _, first, second = trail(terminal)
    assert [(each["action"], each["target"]) for each in (first, second)] == [("queue.rename", "orders"), ("queue.rename", "sales")]
    assert (first["before"], first["after"]) == ({}, {"name": "sales"})
    assert (second["before"], second["after"]) == ({"name": "sales"}, {"name": "deals"})


def test_who_did_what_to_a_queue(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "orders")
    terminal.ok("queues", "update", "orders", "--delivery-delay-secs", "7")
    terminal.ok("queues", "pause-delivery", "orders")
    terminal.ok("queues", "resume-delivery", "orders")
    terminal.ok("queues", "consumer", "http", "add", "orders", "--message-retries", "9")
    terminal.ok("messages", "send", "orders", '{"secret": "canary"}')
    terminal.ok("queues", "purge", "orders", "--force")
    terminal.ok("queues", "delete", "orders", "--force")
    found = trail(terminal)
    assert [each["action"] for each in found] == [
        "queue.create", "queue.update", "queue.pause", "queue.resume", "queue.consumer.put", "queue.purge", "queue.delete",
    ]  # fmt: skip
    assert {each["target"] for each in found} == {"orders"}
    who = {(each["actor"], each["name"], each["address"], each["via"]) for each in found}
    assert who == {("cli", getpass.getuser(), socket.gethostname(), "cli")}
    made, updated, paused, _, consumer, purged, gone = found
    assert (made["before"], made["after"]["settings.delivery_delay_ms"]) == (None, 0)
    assert (updated["before"], updated["after"]) == (
        {"settings.delivery_delay_ms": 0}, {"settings.delivery_delay_ms": 7_000},
    )  # fmt: skip
    assert (paused["before"], paused["after"], paused["change"]) == ({"paused": False}, {"paused": True}, "paused: false -> true")
    assert consumer["before"] == {} and consumer["after"]["consumer.max_retries"] == 9
    assert (purged["count"], purged["before"], purged["after"]) == (1, None, None)
    assert gone["before"]["settings.delivery_delay_ms"] == 7_000 and gone["after"] is None
    assert "canary" not in terminal.ok("audit", "list", "--json").out
    assert terminal.ok("audit", "verify", "--json").json["faults"] == []


def test_looking_and_sending_are_no_changes(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "orders")
    for verb in (["queues", "list"], ["queues", "info", "orders"], ["messages", "send", "orders", "1"],
                 ["messages", "pull", "orders"], ["dlq", "list"], ["audit", "verify"]):  # fmt: skip
        terminal.run(*verb)
    assert terminal.run("queues", "pause-delivery", "nope").code == 1
    assert len(trail(terminal)) == 1


def test_jobs_are_cancelled_and_tried_again(terminal: Terminal) -> None:
    failed, *_, waiting = terminal.store(fill)
    terminal.ok("jobs", "cancel", waiting)
    terminal.ok("jobs", "retry", failed)
    cancelled, retried = trail(terminal)
    assert (cancelled["action"], cancelled["target"]) == ("job.cancel", waiting)
    assert (cancelled["before"], cancelled["after"]) == ({"state": "scheduled"}, {"state": "cancelled"})
    assert (retried["action"], retried["target"]) == ("job.retry", failed)
    assert (retried["before"], retried["after"]) == ({"state": "failed"}, {"state": "queued"})


def test_an_edit_shows_both_bodies_but_not_without_bounds(terminal: Terminal) -> None:
    async def die(store: Store) -> str:
        await store.declare_consumer("mails", ConsumerSettings(script="shop", dead_letter_queue="mails-dlq"))
        draft = Draft(id=IdSource(store.clock).new(), queue="mails-dlq", body=b'"old"')
        await store.append([draft])
        return draft.id.hex()

    id = terminal.store(die)
    terminal.ok("dlq", "edit", "mails-dlq", id, '"new"')
    terminal.ok("dlq", "edit", "mails-dlq", id, f'"{"x" * 5_000}"')
    first, second = trail(terminal, "--action", "dead_letter.edit")
    assert (first["target"], first["before"], first["after"]) == (f"mails-dlq/{id}", {"body": '"old"'}, {"body": '"new"'})
    assert len(second["after"]["body"]) < 1_100 and second["after"]["body"].endswith("(5,002 characters)")


def test_schedules_alarms_webhooks_tokens_and_values(terminal: Terminal) -> None:
    async def make(store: Store) -> None:
        draft = ScheduleDraft(
            name="nightly", app="shop", queue="shop-cron", expression="0 3 * * *", syntax="posix", timezone="UTC",
            misfire="latest", overlap="allow", jitter_ms=0,
        )  # fmt: skip
        await store.declare_schedule(draft, None)
        await store.declare_consumer("shop-alarms", ConsumerSettings(script="shop"))

    terminal.store(make)
    terminal.ok("cron", "pause", "nightly")
    terminal.ok("alarms", "set", "tea", "--after", "1h", "--app", "shop")
    terminal.ok("alarms", "cancel", "tea")
    made = terminal.ok("webhooks", "add", "shop", "https://example.com/hooks", "--event", "order.*", "--json").json
    turned = terminal.ok("webhooks", "rotate", made["id"], "--json").json
    terminal.ok("webhooks", "disable", made["id"])
    terminal.ok("tokens", "create", "ci", "--read")
    terminal.ok("kv", "put", "space", "key", "canary-value")
    found = trail(terminal)
    assert [each["action"] for each in found] == [
        "schedule.pause", "alarm.set", "alarm.cancel", "webhook.add", "webhook.rotate", "webhook.disable",
        "token.create", "kv.put",
    ]  # fmt: skip
    paused, rung, silent, added, _, disabled, token, _ = found
    assert (paused["before"], paused["after"]) == ({"paused": False}, {"paused": True})
    assert rung["before"] is None and rung["after"]["state"] == "scheduled" and silent["after"] is None
    assert added["target"] == made["id"] and added["after"]["url"] == "https://example.com/hooks"
    assert (disabled["before"]["disabled"], disabled["after"]["disabled"]) == (None, "by hand")
    assert token["after"]["name"] == "ci" and token["after"]["rights"] == ["read"]
    told = terminal.ok("audit", "list", "--json").out
    for secret in (made["secret"], turned["secret"], "digest", "sealed", "canary-value"):
        assert secret not in told
    assert made["secret"].startswith("whsec_") and made["secret"] != turned["secret"]


def test_the_list_is_filtered(terminal: Terminal) -> None:
    for name in ("orders", "orders-2", "mails"):
        terminal.ok("queues", "create", name)
    terminal.ok("queues", "pause-delivery", "mails")
    user = f"{getpass.getuser()}@{socket.gethostname()}"
    assert [each["target"] for each in trail(terminal, "--target", "orders*")] == ["orders", "orders-2"]
    assert [each["target"] for each in trail(terminal, "--action", "*.pause")] == ["mails"]
    assert len(trail(terminal, "--who", user)) == 4 and trail(terminal, "--who", "anna@*") == []
    assert len(trail(terminal, "--since", "1h")) == 4 and trail(terminal, "--since", "0s") == []
    assert [each["number"] for each in trail(terminal, "--before", "3", "--limit", "1")] == [2]
    assert "paused: false -> true" in terminal.ok("audit", "list", "--action", "queue.pause").out


def test_without_the_pepper_nothing_is_changed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_PEPPER", PEPPER)
    terminal.ok("queues", "create", "orders")
    monkeypatch.delenv("CONVEYOR_PEPPER")
    refused = terminal.run("queues", "pause-delivery", "orders")
    assert (refused.code, "CONVEYOR_PEPPER" in refused.err) == (1, True)
    assert not terminal.store(lambda store: store.get_queue("orders")).paused
    monkeypatch.setenv("CONVEYOR_PEPPER", PEPPER)
    terminal.ok("queues", "pause-delivery", "orders")
    assert terminal.ok("audit", "verify", "--json").json["faults"] == []


def test_a_change_that_cannot_be_recorded_is_not_made(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.ok("queues", "create", "orders")

    def refuse(*_: object) -> bytes:
        raise ConflictError("the trail is away")

    with monkeypatch.context() as patched:
        patched.setattr(Audit, "examine", refuse)
        assert terminal.run("queues", "pause-delivery", "orders").code == 1
    assert not terminal.store(lambda store: store.get_queue("orders")).paused


def test_a_look_at_messages_is_recorded(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be anything."""
    terminal.ok("queues", "create", "orders")
    terminal.ok("messages", "send", "orders", '{"secret": "canary"}')
    assert "canary" in terminal.ok("messages", "peek", "orders").out
    [_, seen] = trail(terminal)
    assert (seen["action"], seen["target"], seen["actor"], seen["result"]) == ("message.peek", "orders", "cli", "ok")
    assert "canary" not in terminal.ok("audit", "list", "--json").out
    monkeypatch.setenv("CONVEYOR_PEPPER", PEPPER)
    terminal.ok("messages", "peek", "orders")
    monkeypatch.delenv("CONVEYOR_PEPPER")
    refused = terminal.run("messages", "peek", "orders")
    assert refused.code == 1 and "CONVEYOR_PEPPER" in refused.err and "canary" not in refused.out
    monkeypatch.setenv("CONVEYOR_PEPPER", PEPPER)
    assert terminal.ok("audit", "verify", "--json").json["faults"] == []


def test_looks_at_dead_letters_jobs_and_groups_are_recorded(terminal: Terminal) -> None:
    [job, *_] = terminal.store(fill)
    [letter, *_] = terminal.ok("dlq", "list", "mails", "--json").json
    terminal.ok("dlq", "show", "mails", letter["id"])
    terminal.ok("dlq", "edit", "mails", letter["id"], "2")
    terminal.ok("jobs", "show", job)
    terminal.ok("jobs", "logs", job)
    looks = trail(terminal, "--action", "*.peek")
    assert [(each["action"], each["target"]) for each in looks] == [
        *[("dead_letter.peek", "mails-dlq")] * 3, ("job.peek", job),
    ]  # fmt: skip
    assert {(each["actor"], each["via"]) for each in looks} == {("cli", "cli")}
