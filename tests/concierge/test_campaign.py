"""Thousands of messages, a tenth of which fail: each comes to one end, whatever is killed on the way.

    MESSAGES=10000 KILLS=20 pytest tests/concierge/test_campaign.py -m campaign -s
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from concierge.clinic import clinic, post_office
from concierge.proving import are_over, house, judge, lot, rows_of, say, states_of, strike, wait_until
from conveyor_apps.concierge.jobs import EmailJob, MessageJob, SmsJob
from conveyor_apps.concierge.room import Room
from conveyor_apps.concierge.settings import read_settings
from conveyor_apps.concierge.wiring import build_concierge
from conveyor_apps.concierge.words import Urgency

MESSAGES = int(os.environ.get("MESSAGES", "1000"))
KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", "11"))
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_hundred_messages_come_to_one_end_each(tmp_path: Path) -> None:
    jobs, once = lot(100)
    with post_office(tmp_path) as office:
        strike(office, limit_every=20)  # once in a hundred: each costs a second
        async with clinic(tmp_path, {**office.environment, "PROVIDER_CIRCUIT_OPEN_S": "1"}) as open_clinic, open_clinic.working():
            await enqueue(open_clinic.room, jobs, once)
            with anyio.fail_after(100):
                while not are_over(tmp_path / "conveyor.db", len(jobs)):
                    await anyio.sleep(0.1)
        verdict = judge(tmp_path / "conveyor.db", office, jobs, once)
    assert verdict.faults == []
    assert verdict.dead >= 1


async def enqueue(room: Room, jobs: Sequence[MessageJob], once: set[str]) -> None:
    for job in jobs:
        if job.message_id in once and isinstance(job, EmailJob):
            await room.producer.enqueue_email(job, once=True)
        elif job.message_id in once and isinstance(job, SmsJob):
            await room.producer.enqueue_sms(job, once=True)
    for start in range(0, len(jobs), 100):
        await room.producer.enqueue_batch([each for each in jobs[start : start + 100] if each.message_id not in once])


@pytest.mark.campaign
@pytest.mark.timeout(7_200)
async def test_thousands_of_messages_come_to_one_end_each_though_workers_are_killed(tmp_path: Path) -> None:
    jobs, once = lot(MESSAGES)
    dice = random.Random(SEED)
    with house(tmp_path) as served:
        strike(served.office)
        began = time.monotonic()
        await produce(served.environment, jobs, once)
        enqueued_s = time.monotonic() - began
        kills = 0
        while not are_over(served.file, len(jobs)):
            if kills < KILLS and served.kill_one(dice):
                kills += 1
            await asyncio.sleep(0.3 + 2 * dice.random())
            assert time.monotonic() - began < 6_000, states_of(served.file)
        took_s = time.monotonic() - began
        wait_until(lambda: not rows_of(served.file, WAITING)[0][0], seconds=120)
        verdict = judge(served.file, served.office, jobs, once)
    say(f"{len(jobs):,} messages in {took_s:.1f} s, enqueued in {enqueued_s:.1f} s, {kills} workers killed: {verdict}")
    assert verdict.faults == []


WAITING = "SELECT count(*) FROM messages m JOIN queues q USING (lane) WHERE q.name IN ('message-delivery', 'concierge-alerts')"


async def produce(environment: Mapping[str, str], jobs: Sequence[MessageJob], once: set[str]) -> None:
    """From another process than the server's."""
    built = build_concierge(read_settings(environment), url=environment["CONVEYOR_URL"])
    async with built.app:
        await enqueue(built.doorway.room(), jobs, once)


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_a_worker_killed_with_ten_under_way_costs_none_of_them_its_one_end(tmp_path: Path) -> None:
    jobs = [mail(f"m{n:02d}", Urgency.HIGH) for n in range(20)]
    once = {job.message_id for job in jobs[::4]}
    with house(tmp_path, processes=1, CONCIERGE_WORKERS="10", PROVIDER_TIMEOUT_S="600") as served:
        served.office.strike("smtp", {"recipient": "*", "delay_ms": 600_000, "times": 10})
        await produce(served.environment, jobs, once)
        wait_until(lambda: len(served.office.accepted()) == 10, seconds=60)
        under_way = {id for (id,) in rows_of(served.file, "SELECT id FROM concierge_messages WHERE state = 'sending'")}
        began = time.monotonic()
        assert served.kill_one(random.Random(SEED))
        wait_until(lambda: are_over(served.file, len(jobs)), seconds=120)
        took_s = time.monotonic() - began
        wait_until(lambda: not rows_of(served.file, WAITING)[0][0], seconds=60)
        verdict = judge(served.file, served.office, jobs, once)
        failed = {id for (id,) in rows_of(served.file, "SELECT id FROM concierge_messages WHERE state = 'failed'")}
    say(f"killed with {len(under_way)} of {len(jobs)} under way: all over after {took_s:.1f} s; {verdict}")
    assert verdict.faults == []
    assert len(under_way) == 10
    assert failed == under_way & once  # they may have gone, and must not go twice
    assert verdict.twice == len(under_way - once) == 5  # those that waited went once


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_a_thousand_messages_over_a_minute_go_when_they_are_to_go(tmp_path: Path) -> None:
    count = min(MESSAGES, 1_000)
    with house(tmp_path) as served:
        built = build_concierge(read_settings(served.environment), url=served.environment["CONVEYOR_URL"])
        async with built.app:
            start = datetime.now(UTC) + timedelta(seconds=15)
            producer = built.doorway.room().producer
            for number in range(count):
                job = EmailJob(message_id=f"l{number}", recipient=f"l{number}@example.com", subject="s", content="c")
                await producer.enqueue_send_later(job, start + timedelta(seconds=60 * number / count))
            assert datetime.now(UTC) < start, "enqueuing took too long for this to say anything"
        await asyncio.sleep(60)
        wait_until(lambda: are_over(served.file, count), seconds=120)
        late = sorted(each for (each,) in rows_of(served.file, LATE))
    at = [round(late[min(len(late) - 1, int(len(late) * share))]) for share in (0.5, 0.9, 0.99)]
    say(f"{count:,} over a minute: first {late[0]} ms late, p50 {at[0]} ms, p90 {at[1]} ms, p99 {at[2]} ms, most {late[-1]} ms")
    assert late[0] >= 0
    assert at[2] <= 1_000


LATE = """
SELECT min(h.at) - m.send_at FROM concierge_messages m JOIN concierge_history h ON h.message = m.id AND h.event = 'sending'
GROUP BY m.id
"""


@pytest.mark.campaign
@pytest.mark.timeout(1_800)
async def test_what_is_urgent_overtakes_ten_thousand_that_are_not(tmp_path: Path) -> None:
    count = max(MESSAGES, 10_000)
    with house(tmp_path) as served:
        built = build_concierge(read_settings(served.environment), url=served.environment["CONVEYOR_URL"])
        async with built.app:
            producer = built.doorway.room().producer
            await built.app.pause("message-delivery")
            for start in range(0, count, 500):
                await producer.enqueue_batch([mail(f"low{n}", Urgency.LOW) for n in range(start, start + 500)])
            await asyncio.sleep(6)
            await built.app.resume("message-delivery")
            wait_until(lambda: states_of(served.file).get("sent", 0) > 50, seconds=60)
            waits = []
            for number in range(20):
                await producer.enqueue_email(mail(f"high{number}", Urgency.HIGH))
                sent = SENT.format(f"high{number}")
                wait_until(functools.partial(rows_of, served.file, sent), seconds=60, every=0.02)
                waits.append(rows_of(served.file, WAITED.format(f"high{number}"))[0][0])
            left = states_of(served.file).get("queued", 0)
    waits.sort()
    say(f"urgent ones begin {waits[0]} to {waits[-1]} ms after they were enqueued, p50 {waits[10]} ms, {left:,} others waiting")
    assert left > 0
    assert waits[-1] <= 1_000


def mail(id: str, priority: Urgency) -> EmailJob:
    return EmailJob(message_id=id, recipient=f"{id}@example.com", subject="s", content="c", priority=priority)


SENT = "SELECT 1 FROM concierge_messages WHERE id = '{}' AND state = 'sent'"
WAITED = """
SELECT max(at) FILTER (WHERE event = 'sending') - min(at) FILTER (WHERE event = 'queued')
FROM concierge_history WHERE message = '{}'
"""
