"""Reports: what running jobs say is numbered, fenced by their leases, bounded, and goes with its job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.job import RECORD_MS, JobState
from conveyor.model.message import Lease
from conveyor.model.report import CUT_MARK, LOG_BYTES_MAX, LOG_LINES_MAX, OUTPUT_BYTES_MAX, Kind, Report, Word
from conveyor.model.verdict import Action
from conveyor.store.notices import NOTICES_MAX, Notice
from conveyor.store.protocol import Store
from conveyor.store.reports import bell_of
from conveyor.testing.conformance.jobs import QUEUE, Desk


def log(text: str, **parts: object) -> Word:
    word = Word(kind=Kind.LOG, at=1, attempt=1, body=text.encode(), level="info")
    return replace(word, **parts)


def output(body: bytes, **parts: object) -> Word:
    return replace(Word(kind=Kind.OUTPUT, at=1, attempt=1, body=body), **parts)


def progress(fraction: float, note: str = "") -> Word:
    return Word(kind=Kind.PROGRESS, at=1, attempt=1, body=note.encode(), fraction=fraction)


def report(desk: Desk, lease: Lease, *words: Word, is_first: bool = False) -> Report:
    record = desk.record(lease, JobState.RUNNING, ended_at=None)
    return Report(record=record, is_first=is_first, seq=lease.seq, claim=lease.claim, words=words)


async def write(desk: Desk, lease: Lease, *words: Word) -> Sequence[MessageId]:
    return await desk.store.reports.write(desk.owner, [report(desk, lease, *words, is_first=True)])


async def bodies(desk: Desk, id: MessageId, after: int = 0) -> list[tuple[int, bytes]]:
    words = await desk.store.reports.read(id, after=after, limit=10_000)
    return [(each.number, each.body) for each in words]


@pytest.mark.anyio
class TestReports:
    async def test_words_are_numbered_over_all_reports(self, desk: Desk) -> None:
        lease = await desk.take_new()
        assert await write(desk, lease, log("a"), progress(0.25, "on it"), output(b"b")) == []
        await desk.store.reports.write(desk.owner, [report(desk, lease, log("c", level="error"))])
        assert await bodies(desk, lease.id) == [(1, b"a"), (3, b"b"), (4, b"c")]
        assert await bodies(desk, lease.id, after=3) == [(4, b"c")]
        [first] = await desk.store.reports.read(lease.id, after=0, limit=1)
        assert first == log("a", number=1)
        said = await desk.store.reports.find(lease.id)
        assert said is not None and said.last_number == 4
        assert said.progress == replace(progress(0.25, "on it"), number=2)

    async def test_a_job_that_says_nothing_has_nothing(self, desk: Desk) -> None:
        lease = await desk.take_new()
        assert await desk.store.reports.find(lease.id) is None
        assert await bodies(desk, lease.id) == []

    async def test_the_last_progress_counts(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, progress(1 / 3))
        await write(desk, lease, progress(0.666667, "é"), log("x"))
        said = await desk.store.reports.find(lease.id)
        assert said is not None and said.progress is not None
        assert (said.progress.number, said.progress.fraction, said.progress.body) == (2, 0.666667, "é".encode())

    async def test_bytes_come_back_as_they_went_in(self, desk: Desk) -> None:
        lease = await desk.take_new()
        raw = bytes(range(256))
        await write(desk, lease, output(raw, is_text=False), log("no \0 é"))
        words = await desk.store.reports.read(lease.id, after=0, limit=9)
        assert [(each.body, each.is_text) for each in words] == [(raw, False), ("no \0 é".encode(), True)]

    async def test_who_has_lost_the_lease_is_not_heard(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, log("first"))
        await desk.settle(lease, Action.RETRY, JobState.RETRYING)
        again = await desk.take()
        assert await write(desk, lease, log("stale")) == [lease.id]
        assert await desk.store.reports.write(desk.owner + 1, [report(desk, again, log("not ours"))]) == [lease.id]
        other = await desk.take_new()
        both = [report(desk, lease, log("stale")), report(desk, other, log("good"), is_first=True)]
        assert await desk.store.reports.write(desk.owner, both) == [lease.id]
        assert await bodies(desk, lease.id) == [(1, b"first")]
        assert await bodies(desk, other.id) == [(1, b"good")]

    async def test_the_first_report_says_that_the_job_runs(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, log("a"))
        record = (await desk.find(lease.id)).record
        assert record is not None and record.state is JobState.RUNNING and record.worker == "here:1"

    async def test_what_was_said_stays_when_the_job_has_ended(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, log("a"), progress(1.0))
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED)
        assert await bodies(desk, lease.id) == [(1, b"a")]
        assert await write(desk, lease, log("too late")) == [lease.id]

    async def test_who_listens_hears_the_bell(self, desk: Desk) -> None:
        rung = asyncio.Event()
        end = desk.store.subscribe(lambda names: rung.set() if bell_of(QUEUE) in names else None)
        lease = await desk.take_new()
        assert not rung.is_set()
        await write(desk, lease, log("a"))
        async with asyncio.timeout(10):
            await rung.wait()
        end()


@pytest.mark.anyio
class TestReportLimits:
    async def test_the_oldest_lines_go(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, output(b"kept"), *(log(str(number)) for number in range(900)))
        await write(desk, lease, *(log(str(number)) for number in range(900, 1_500)))
        found = await bodies(desk, lease.id)
        assert [body for _, body in found] == [b"kept", *(str(number).encode() for number in range(500, 1_500))]
        said = await desk.store.reports.find(lease.id)
        assert said is not None and (said.log_lines, said.last_number) == (LOG_LINES_MAX, 1_501)

    async def test_the_oldest_go_by_their_size_too(self, desk: Desk) -> None:
        lease = await desk.take_new()
        for _ in range(5):
            await write(desk, lease, *(log("x" * 4_000) for _ in range(60)))
        found = await bodies(desk, lease.id)
        assert sum(len(body) for _, body in found) == LOG_BYTES_MAX
        assert found[-1][0] == 300

    async def test_output_is_cut_with_a_mark(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, output(b"a" * (OUTPUT_BYTES_MAX - 3)))
        await write(desk, lease, output("éé".encode()), output(b"gone"))
        await write(desk, lease, output(b"gone too"), log("still heard"))
        found = [body for _, body in await bodies(desk, lease.id)]
        assert found == [b"a" * (OUTPUT_BYTES_MAX - 3), "é".encode() + CUT_MARK, b"still heard"]

    async def test_output_up_to_the_limit_is_not_cut(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, output(b"a" * OUTPUT_BYTES_MAX))
        assert [len(body) for _, body in await bodies(desk, lease.id)] == [OUTPUT_BYTES_MAX]

    async def test_a_new_attempts_output_takes_the_place_of_the_former(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, output(b"one"), log("of the first"))
        await desk.settle(lease, Action.RETRY, JobState.RETRYING)
        again = await desk.take()
        await write(desk, again, log("of the second", attempt=2))
        assert [body for _, body in await bodies(desk, lease.id)] == [b"one", b"of the first", b"of the second"]
        await write(desk, again, output(b"two", attempt=2), output(b"three", attempt=2))
        found = [body for _, body in await bodies(desk, lease.id)]
        assert found == [b"of the first", b"of the second", b"two", b"three"]

    async def test_reports_go_with_their_job(self, desk: Desk) -> None:
        lease, other = await desk.take_new(), await desk.take_new()
        for each in (lease, other):
            await write(desk, each, log("a"), progress(0.5))
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED)
        await desk.settle(other, Action.ACK, JobState.SUCCEEDED, expires_at=desk.clock.now_ms() + 2 * RECORD_MS)
        await desk.clock.advance(RECORD_MS / 1000 + 1)
        assert (await desk.store.sweep()).jobs == 1
        assert await desk.store.reports.find(lease.id) is None
        assert await bodies(desk, lease.id) == []
        assert await bodies(desk, other.id) == [(1, b"a")]

    async def test_a_long_log_goes_over_several_sweeps(self, desk: Desk) -> None:
        lease = await desk.take_new()
        await write(desk, lease, output(b"x"), *(log("a") for _ in range(1_000)))
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED)
        await desk.clock.advance(RECORD_MS / 1000 + 1)
        for _ in range(3):
            await desk.store.sweep()
        assert await desk.store.reports.find(lease.id) is None
        assert await bodies(desk, lease.id) == []
        assert await desk.store.jobs.find([lease.id]) == []


def notice(number: int) -> Notice:
    return Notice(origin="here:1", at=number, name="conveyor.message.failed", body=b'{"n":%d}' % number)


@pytest.mark.anyio
class TestNotices:
    async def test_they_come_in_order_and_after_a_number(self, store: Store) -> None:
        assert await store.notices.last() == 0
        await store.notices.add([notice(1), notice(2)])
        await store.notices.add([notice(3)])
        found = await store.notices.read(after=0, limit=9)
        assert [replace(each, number=0) for each in found] == [notice(1), notice(2), notice(3)]
        numbers = [each.number for each in found]
        assert numbers == sorted(set(numbers))
        assert await store.notices.last() == numbers[-1]
        assert [each.at for each in await store.notices.read(after=numbers[0], limit=1)] == [2]

    async def test_the_oldest_go(self, store: Store) -> None:
        for start in range(0, NOTICES_MAX + 300, 100):
            await store.notices.add([notice(number) for number in range(start, start + 100)])
        found = await store.notices.read(after=0, limit=2 * NOTICES_MAX)
        assert [each.at for each in found] == list(range(300, NOTICES_MAX + 300))
