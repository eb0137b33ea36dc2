"""`conveyor jobs`: listed, shown, explained, cancelled, tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from conveyor.model.ids import IdSource
from conveyor.model.job import RECORD_MS, JobRecord, JobState
from conveyor.model.message import Draft, Lease
from conveyor.model.report import Kind, Report, Word
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, OwnerInfo

if TYPE_CHECKING:
    from .conftest import Terminal


def record(store: Store, lease: Lease, state: JobState, error: str | None) -> JobRecord:
    now = store.clock.now_ms()
    return JobRecord(
        id=lease.id, name="mail", queue="mails", state=state, enqueued_at=lease.sent_at, started_at=now, ended_at=now,
        attempts=1, worker="here:1", error=error, fingerprint=None if error is None else "f00d",
        expires_at=now + RECORD_MS,
    )  # fmt: skip


async def fill(store: Store) -> list[str]:
    """Failed, failed, succeeded, scheduled."""
    settings = ConsumerSettings(script="shop", tracks_jobs=True, dead_letter_queue="mails-dlq")
    await store.declare_consumer("mails", settings)
    info = OwnerInfo(app="shop", host=store.host, pid=1, supervisor_pid=1)
    owner, ids = await store.register_owner(info), IdSource(store.clock)
    headers = b'{"job":"mail"}'
    drafts = [Draft(id=ids.new(), queue="mails", body=b"1", headers=headers) for _ in range(3)]
    drafts.append(Draft(id=ids.new(), queue="mails", body=b"1", headers=headers, delay_ms=3_600_000))
    await store.append(drafts)
    leases = (await store.claim(ClaimRequest(queue="mails", owner=owner, limit=9))).leases
    settlements = [
        Settlement(each.seq, each.claim, Action.REJECT, outcome=record(store, each, JobState.FAILED, "KeyError: 'x'"))
        for each in leases[:2]
    ]
    last = leases[2]
    settlements.append(Settlement(last.seq, last.claim, outcome=record(store, last, JobState.SUCCEEDED, None)))
    await store.settle(owner, settlements)
    return [each.id.hex() for each in drafts]


@pytest.fixture
def ids(terminal: Terminal) -> list[str]:
    return terminal.store(fill)


def test_jobs_are_listed_newest_first(terminal: Terminal, ids: list[str]) -> None:
    listed = terminal.ok("jobs", "list", "--json").json
    assert [(each["id"], each["state"]) for each in listed] == list(
        zip(ids[::-1], ["scheduled", "succeeded", "failed", "failed"], strict=True)
    )
    assert [each["id"] for each in terminal.ok("jobs", "list", "--state", "failed", "--json").json] == ids[1::-1]
    assert terminal.ok("jobs", "list", "--name", "other").out == "no such jobs\n"
    assert len(terminal.ok("jobs", "list", "--limit", "1", "--json").json) == 1


def test_errors_are_grouped(terminal: Terminal, ids: list[str]) -> None:
    [group] = terminal.ok("jobs", "list", "--errors", "--json").json
    assert (group["fingerprint"], group["jobs"], group["error"]) == ("f00d", 2, "KeyError: 'x'")
    assert len(terminal.ok("jobs", "list", "--error", "f00d", "--json").json) == len(ids) - 2


def test_a_job_is_shown_with_its_life(terminal: Terminal, ids: list[str]) -> None:
    shown = terminal.ok("jobs", "show", ids[0], "--json").json
    assert [each["state"] for each in shown["timeline"]] == ["queued", "running", "failed"]
    text = terminal.ok("jobs", "show", ids[0]).out
    assert "failed  attempt 1" in text and "KeyError: 'x'" in text
    assert terminal.run("jobs", "show", "0" * 32).code == 1
    assert "job_not_found" in terminal.run("jobs", "show", "what").err


def test_a_job_is_explained(terminal: Terminal, ids: list[str]) -> None:
    assert terminal.ok("jobs", "explain", ids[3], "--json").json["reason"] == "scheduled"
    assert "KeyError: 'x'" in terminal.ok("jobs", "explain", ids[0]).out
    assert terminal.ok("jobs", "explain", ids[2]).out.startswith("it succeeded")


def test_a_job_is_cancelled(terminal: Terminal, ids: list[str]) -> None:
    assert terminal.ok("jobs", "cancel", ids[3]).out == f"`{ids[3]}` is cancelled\n"
    assert terminal.ok("jobs", "cancel", ids[2], "--json").json["state"] == "succeeded"
    assert terminal.run("jobs", "cancel", "0" * 32).code == 1


def test_failed_jobs_are_tried_again(terminal: Terminal, ids: list[str]) -> None:
    assert terminal.ok("jobs", "retry", ids[0], "--json").json == {"retried": [ids[0]]}
    assert terminal.run("jobs", "retry", ids[0]).code == 1
    assert terminal.ok("jobs", "retry", "--error", "f00d", "--rate", "50/s", "--json").json == {"retried": [ids[1]]}
    assert terminal.run("jobs", "retry").code == 2
    assert terminal.run("jobs", "retry", ids[0], "--name", "mail").code == 2
    states = [each["state"] for each in terminal.ok("jobs", "list", "--json").json]
    assert states == ["scheduled", "succeeded", "queued", "queued"]


def test_a_job_is_told_of_an_event_and_shows_it(terminal: Terminal, ids: list[str]) -> None:
    assert f"`paid` is sent to `{ids[3]}`" in terminal.ok("jobs", "send-event", ids[3], "paid", '{"amount": 9}').out
    assert "event  paid  sent  12 bytes" in terminal.ok("jobs", "show", ids[3]).out
    [event] = terminal.ok("jobs", "show", ids[3], "--json").json["events"]
    assert event["name"] == "paid"
    assert terminal.run("jobs", "send-event", ids[2], "paid").code == 1
    assert terminal.run("jobs", "send-event", ids[3], "paid", "{").code == 2


def test_logs_tell_what_a_job_has_said(terminal: Terminal) -> None:
    async def speak(store: Store) -> str:
        settings = ConsumerSettings(script="shop", tracks_jobs=True, dead_letter_queue="mails-dlq")
        await store.declare_consumer("mails", settings)
        owner = await store.register_owner(OwnerInfo(app="shop", host=store.host, pid=1, supervisor_pid=1))
        id = IdSource(store.clock).new()
        await store.append([Draft(id=id, queue="mails", body=b"1", headers=b'{"job":"mail"}')])
        [lease] = (await store.claim(ClaimRequest(queue="mails", owner=owner, limit=1))).leases
        done = record(store, lease, JobState.SUCCEEDED, None)
        at = store.clock.now_ms()
        words = [
            Word(kind=Kind.LOG, at=at, attempt=1, body=b"one\x1b[2J", level="warning"),
            Word(kind=Kind.OUTPUT, at=at, attempt=1, body=b"\xff", is_text=False),
            Word(kind=Kind.PROGRESS, at=at, attempt=1, body=b"half", fraction=0.5),
        ]
        report = Report(record=done, is_first=False, seq=lease.seq, claim=lease.claim, words=words)
        await store.reports.write(owner, [report])
        await store.settle(owner, [Settlement(lease.seq, lease.claim, outcome=done)])
        return id.hex()

    id = terminal.store(speak)
    lines = terminal.ok("jobs", "logs", id).out.splitlines()
    assert [each.split("  ", 1)[1] for each in lines] == ["warning  one\\x1b[2J", "output   1 bytes", "  50.0%  half"]
    told = terminal.ok("jobs", "logs", id, "--follow", "--after", "1", "--json").out
    events = [msgspec.json.decode(each) for each in told.splitlines()]
    assert [(each["event"], each["number"]) for each in events] == [("output", 2), ("progress", 3), ("end", 3)]
    assert terminal.run("jobs", "logs", "0" * 32).code == 1
