"""Producers killed with SIGKILL while they send: what was confirmed is there once, what was not is there once or not at
all, and a batch is there as a whole or not at all (F01, F11, F50)."""

from __future__ import annotations

import pytest

from kit.campaign import SEED, Report, sizes
from kit.checker import Rules
from kit.fleet import Fleet

SINGLE = """
async def life(store, number, history):
    async def send(lane):
        count = 0
        while not is_over():
            n, count = f"{number}.{lane}.{count}", count + 1
            draft = a_draft(queue="jobs", body=b'"%s"' % n.encode())
            history.note(What.SENDING, n, id=draft.id)
            [sent] = await store.append([draft])
            history.note(What.SENT, n, id=sent.id)
            await asyncio.sleep(0.01)
    await asyncio.gather(*(send(lane) for lane in range(3)))
"""
BATCHES = """
async def life(store, number, history):
    count = 0
    while not is_over():
        size = 10_000 if count % 10 == 9 else 100
        drafts = [a_draft(queue="jobs", body=b'"%d.%d.%d"' % (number, count, at)) for at in range(size)]
        names = [(draft.body.decode().strip('"'), draft.id) for draft in drafts]
        history.note_all(What.SENDING, names, batch=f"{number}.{count}")
        sent = await store.append(drafts)
        history.note_all(What.SENT, [(n, each.id) for (n, _), each in zip(names, sent, strict=True)])
        count += 1
"""
SAME_KEY = """
async def life(store, number, history):
    async def send(lane):
        count = 0
        while not is_over():
            n, count, key = f"{number}.{lane}.{count}", count + 1, f"k{int(time.monotonic() * 5)}"
            draft = a_draft(queue="jobs", body=b'"%s"' % n.encode(), dedupe=key)
            history.note(What.SENDING, n, id=draft.id, dedupe=key)
            [sent] = await store.append([draft])
            history.note(What.SENT, n, id=sent.id)
            await asyncio.sleep(0.01)
    await asyncio.gather(*(send(lane) for lane in range(6)))
"""


@pytest.mark.parametrize("kills", sizes(10, 1_000))
def test_a_killed_producer_s_confirmed_sends_are_there_once(fleet: Fleet, report: Report, kills: int) -> None:
    fleet.send([])
    fleet.run_herd(SINGLE, kills=kills, seed=SEED, count=8)
    verdict = fleet.judge(Rules(is_drained=False), dead=None)
    report("F01", verdict)
    assert not verdict.findings, verdict.story
    assert verdict.confirmed > 10 * kills


@pytest.mark.parametrize("kills", sizes(6, 200))
def test_a_killed_producer_s_batch_is_whole_or_not_there(fleet: Fleet, report: Report, kills: int) -> None:
    fleet.send([])
    fleet.run_herd(BATCHES, kills=kills, seed=SEED, count=4, pause_s=(0.02, 0.3))
    verdict = fleet.judge(Rules(is_drained=False), dead=None)
    report("F11", verdict)
    assert not verdict.findings, verdict.story
    assert verdict.unknown >= 100, "some were killed in the middle of a batch"


@pytest.mark.parametrize("kills", sizes(6, 1_000))
def test_a_key_sent_by_all_at_once_makes_one_message_whoever_is_killed(fleet: Fleet, report: Report, kills: int) -> None:
    fleet.send([], dedupe_window_ms=3_600_000)
    fleet.run_herd(SAME_KEY, kills=kills, seed=SEED, count=8)
    verdict = fleet.judge(Rules(is_drained=False), dead=None)
    left = fleet.metrics().backlog_messages
    report("F50", verdict, messages=left)
    assert not verdict.findings, verdict.story
    assert verdict.confirmed > 3 * left, "each key was asked for by many"
