"""A store in which every table that can be carried has rows, and the questions whose answers a move must not change."""

from __future__ import annotations

import contextlib
from typing import Any

from msgspec.structs import replace

from conveyor.model.dispatch import Dispatch
from conveyor.model.group import GROUP_HEADER
from conveyor.model.ids import MessageId
from conveyor.model.job import RECORD_MS, JobAttempt, JobRecord, JobState
from conveyor.model.message import Peeked
from conveyor.model.rate import Rate
from conveyor.model.report import Kind, Report, Word
from conveyor.model.settings import ConsumerSettings, ConsumerType, QueueSettings
from conveyor.model.step import StepKind, StepRecord
from conveyor.model.verdict import Action, Settlement
from conveyor.store.groups import GroupDraft, NodeDraft
from conveyor.store.jobs import JobsAsked
from conveyor.store.keeping import Portable
from conveyor.store.portable import TABLES, Row
from conveyor.store.protocol import Store
from conveyor.store.records import PULL_OWNER, KeyValue
from conveyor.store.steps import Holder
from conveyor.testing.factories import (
    a_claim,
    a_delivery,
    a_draft,
    a_firing,
    a_reject,
    a_release,
    a_retry,
    a_schedule,
    an_ack,
    an_entry,
    an_id,
    an_owner,
)


async def fill_everything(store: Store) -> None:
    """On a manual clock, so that its owner's lease is long over by everybody else's."""
    await store.create_queue("inbox", QueueSettings(dedupe_window_ms=3_600_000, max_backlog_messages=500))
    await store.declare_consumer("inbox", ConsumerSettings(script="shop", dead_letter_queue="inbox-dlq", max_retries=2))
    await store.declare_consumer("limited", ConsumerSettings(script="shop", max_concurrency=3))
    await store.declare_consumer("ordered", ConsumerSettings(script="shop", ordered=True))
    await store.create_queue("pulled", QueueSettings())
    await store.put_consumer("pulled", ConsumerSettings(type=ConsumerType.HTTP_PULL))
    owner = await store.register_owner(an_owner())
    await _fill_inbox(store, owner)
    await store.append([a_draft(queue="limited") for _ in range(3)])
    await store.claim(a_claim(queue="limited", owner=owner, limit=2, calls=2))
    await store.append([a_draft(queue="ordered", key=key) for key in ("a", "a", "b", "é")])
    await store.claim(a_claim(queue="ordered", owner=owner))
    await _fill_fair(store, owner)
    await store.append([a_draft(queue="pulled") for _ in range(2)])
    await store.claim(a_claim(queue="pulled", owner=PULL_OWNER, limit=1, lease_ms=60_000))
    await store.pause("limited")
    await store.create_queue("purged", QueueSettings())
    await store.append([a_draft(queue="purged", dedupe="p")])
    await store.purge("purged")
    await _fill_jobs(store, owner)
    await _fill_groups(store)
    await _fill_beside(store)


async def _fill_groups(store: Store) -> None:
    """One that runs, with a member that waits for another, and one that has ended."""
    await store.create_queue("members", QueueSettings())
    for name, members in (("wide", 2), ("none", 0)):
        draft = GroupDraft(
            id=an_id(), name=name, on_failure="continue", deadline_ms=60_000, on_complete=a_draft(queue="purged")
        )
        headers = b'{"%s":"%s"}' % (GROUP_HEADER.encode(), draft.id.hex().encode())
        nodes = [
            NodeDraft(
                place=place, message=a_draft(queue="members", headers=headers), job=None, after=tuple(range(place)),
                takes=place - 1 if place else None,
            )
            for place in range(members)
        ]  # fmt: skip
        await store.groups.start(draft, nodes, is_last=True)


async def _fill_jobs(store: Store, owner: int) -> None:
    """One that failed, and one that is to end."""
    await store.declare_consumer("mails", ConsumerSettings(script="shop", tracks_jobs=True))
    await store.append([a_draft(queue="mails", headers=b'{"job":"mail"}') for _ in range(2)])
    failed, running = (await store.claim(a_claim(queue="mails", owner=owner, limit=2))).leases
    now = store.clock.now_ms()
    record = JobRecord(
        id=failed.id, name="mail", queue="mails", state=JobState.RETRYING, enqueued_at=now, started_at=now, ended_at=now,
        attempts=1, worker="here:1", result=b"1", result_until=now, error="no \0 é", fingerprint="f", next_at=now,
        expires_at=now + RECORD_MS,
    )  # fmt: skip
    await store.settle(owner, [Settlement(failed.seq, failed.claim, Action.RETRY, 60_000, outcome=record)])
    facts = {"owner": owner, "seq": running.seq, "claim": running.claim, "attempts": 1}
    holder = Holder(**facts, id=running.id, name="mail", queue="mails", enqueued_at=now)
    step = StepRecord(kind=StepKind.STEP, name="é", attempt=1, began_at=now, ended_at=now, value=b"1")
    await store.steps.write(holder, step, is_first=True)
    await store.steps.write(holder, replace(step, kind=StepKind.WAIT, ended_at=None, until=now + 9_000), is_first=False)
    await store.steps.send(running.id, "paid é", b'{"n":1}')
    await store.jobs.cancel(running.id)
    words = [
        Word(kind=Kind.LOG, at=now, attempt=1, body=b"no \0 luck", level="info"),
        Word(kind=Kind.OUTPUT, at=now, attempt=1, body=bytes(range(256)), is_text=False),
        Word(kind=Kind.PROGRESS, at=now, attempt=1, body=b"half", fraction=0.5),
    ]
    said = replace(record, id=running.id, state=JobState.RUNNING)
    await store.reports.write(
        owner, [Report(record=said, is_first=False, seq=running.seq, claim=running.claim, words=words)]
    )


async def _fill_fair(store: Store, owner: int) -> None:
    """Keys in line, keys that were called, windows, and a key that rests."""
    rate = Rate(9, 60_000)
    settings = ConsumerSettings(script="shop", fair=True, key_weights={"é": 3}, rate=rate, key_rate=rate)
    await store.declare_consumer("fair", settings)
    await store.append([a_draft(queue="fair", key=key, cost=2) for key in ("é", "é", "a", None, None)])
    (lease,) = (await store.claim(a_claim(queue="fair", owner=owner, limit=1))).leases
    await store.settle(owner, [a_release(lease, delay_ms=60_000, rests_key=True)])
    await store.append([a_draft(queue="fair", key="late") for _ in range(2)])
    await store.declare_consumer("ticking", ConsumerSettings(script="shop", dispatch=Dispatch.CRON))
    await store.append([a_draft(queue="ticking") for _ in range(2)])
    await store.claim(a_claim(queue="ticking", owner=owner))
    await store.declare_consumer("keyed", ConsumerSettings(script="shop", key_concurrency=9))
    await store.append([a_draft(queue="keyed", key="k")])
    (lease,) = (await store.claim(a_claim(queue="keyed", owner=owner))).leases
    await store.settle(owner, [a_release(lease, delay_ms=60_000, rests_key=True)])


async def _fill_inbox(store: Store, owner: int) -> None:
    await store.append([a_draft(body=bytes([number]) * number, priority=number % 10, max_retries=9) for number in range(20)])
    await store.append([a_draft(delay_ms=50_000, headers=b'{"a":1}', expires_in_ms=9**9)])
    await store.append([a_draft(dedupe="done"), a_draft(dedupe="open", max_retries=0)])
    taken = (await store.claim(a_claim(owner=owner, limit=30))).leases
    await store.settle(owner, [an_ack(taken[0]), a_retry(taken[1], delay_ms=1_000)])
    words = "torn \0 in two é"
    await store.settle(owner, [a_reject(taken[2], reason="torn", error=words)])
    done = next(each for each in taken if each.body == b'{"n":1}')
    await store.settle(owner, [an_ack(done)])


async def _fill_beside(store: Store) -> None:
    await store.declare_schedule(a_schedule(), 1_000)
    await store.fire(a_firing())
    await store.begin_run("nightly", 1_000)
    await store.finish_run("nightly", 1_000, error="no \0 luck")
    await store.declare_schedule(a_schedule(name="weekly"), 5_000)
    await store.pause_schedule("weekly")
    await store.kv_put("ns", an_entry())
    await store.put_document("token", "é", b"{}")
    await store.set_alarm("tea", store.clock.now_ms() + 60_000, a_draft(queue="pulled"))
    await store.set_alarm("é", store.clock.now_ms(), boom := a_draft(queue="purged"))
    await store.open_deliveries([(a_delivery(hook := a_draft(queue="purged"), body=b'{"n":1}'), hook)])
    await store.finish_alarm("é", boom.id, error="boom")
    for number in range(3):
        await store.append_record("audit", b'{"n":%d}' % number, lambda before, body: before[-3:] + body)
    await store.kv_put("ns", an_entry(key="large", value=bytes(range(256)) * 4_000))
    await store.kv_put("ns", KeyValue(key="é\0", value=bytes(range(256)), metadata=b"{}", expires_at=store.clock.now_ms() + 9_000))


async def rows_of(keeper: Portable) -> dict[str, list[Row]]:
    """Everything in a store that is not closed, by table."""
    async with keeper.read() as outgoing:
        return {table.name: [row async for chunk in outgoing.rows(table) for row in chunk] for table in TABLES}


async def answers_of(store: Store) -> dict[str, Any]:
    """What its users see. Changes nothing."""
    queues = await store.list_queues()
    return {
        "queues": queues,
        "metrics": [await store.metrics(each.name) for each in queues],
        "messages": [_carried(each) for queue in queues for each in await store.peek(queue.name, limit=1_000)],
        "groups": [(each, await store.groups.members(each.id, limit=9)) for each in await store.groups.look(limit=9)],
        "jobs": [
            (each.name, each.state(store.clock.now_ms()), await _attempts_of(store, each.id), await store.steps.read(each.id))
            for each in (await store.jobs.look(JobsAsked())).jobs
        ],
        "reports": [
            (await store.reports.find(each.id), await store.reports.read(each.id, after=0, limit=9))
            for each in (await store.jobs.look(JobsAsked())).jobs
        ],
        "owners": await store.list_owners(),
        "schedules": await store.list_schedules(),
        "runs": [replace(each, error=_words(each.error)) for each in await store.list_runs("nightly", limit=10)],
        "deliveries": await store.list_deliveries(limit=9),
        "alarms": await store.list_alarms(limit=9),
        "documents": [each for kind in ("token", "audit", "trail") for each in await store.list_documents(kind, limit=9)],
        "values": [await store.kv_get("ns", each.key) for each in await store.kv_list("ns", prefix="", limit=9, after=None)],
    }


async def _attempts_of(store: Store, id: MessageId) -> list[JobAttempt]:
    return [replace(each, error=_words(each.error)) for each in await store.jobs.attempts(id, limit=9)]


def _carried(message: Peeked) -> Peeked:
    dead = message.dead
    return replace(message, dead=None if dead is None else replace(dead, last_error=_words(dead.last_error)))


def _words(text: str | None) -> str | None:
    """PostgreSQL's text holds no NUL, and neither does what is carried."""
    return None if text is None else text.replace("\0", "\ufffd")


async def close_quietly(store: Store) -> None:
    with contextlib.suppress(Exception):
        await store.close()
