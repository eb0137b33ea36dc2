"""Cleanup: archived before it is deleted, by policy and no further, never what is held, and again where it was cut."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import Trail
from conveyor_apps.concierge.cleanup import cleaning, preview_cleanup, run_cleanup
from conveyor_apps.concierge.cleanup import trail as trail_room
from conveyor_apps.concierge.cleanup.archiving import ArchiveError
from conveyor_apps.concierge.cleanup.dead import clean_dead_letters, count_dead_letters
from conveyor_apps.concierge.cleanup.holds import HoldKind
from conveyor_apps.concierge.errors import FieldError, RefusedError
from conveyor_apps.concierge.exports.exporter import Extent
from conveyor_apps.concierge.jobs import CleanupJob
from conveyor_apps.concierge.settings import DEAD
from conveyor_apps.concierge.words import ExportState, Target

from .archivist import ANN, DAY_MS, Archivist, fill, open_archivist, wanted

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def asked(target: Target, older_than: int | None = None) -> CleanupJob:
    return CleanupJob(target=target, older_than=clock.iso(clock.now_ms() if older_than is None else older_than))


async def ids(archivist: Archivist) -> list[str]:
    return [id for (id,) in await archivist.run("SELECT id FROM concierge_messages ORDER BY id")]


async def archived(archivist: Archivist) -> list[dict[str, Any]]:
    """Every record of every archive, whose checksums are looked at."""
    records: list[dict[str, Any]] = []
    for key, sha256, rows in await archivist.run("SELECT key, sha256, rows FROM concierge_archives ORDER BY first_at"):
        found = await archivist.context.bucket.get(key)
        assert found is not None
        assert hashlib.sha256(found.body).hexdigest() == sha256
        lines = gzip.decompress(found.body).splitlines()
        assert len(lines) == rows
        records += [json.loads(line) for line in lines]
    return records


async def test_old_messages_are_archived_with_their_history_and_then_gone(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing():
        old, young = clock.now_ms() - 91 * DAY_MS, clock.now_ms() - 89 * DAY_MS
        fill(archivist.database.path, 30, since=old)
        fill(archivist.database.path, 5, since=young, first=101)
        await archivist.run("UPDATE concierge_messages SET state = 'review' WHERE id = 'msg-000000000007'")
        await archivist.run(
            "INSERT INTO concierge_history (message, at, actor, event, attempt, detail)"
            " VALUES ('msg-000000000001', 1, 'ann', 'sent', 1, '')"
        )
        job = asked(Target.MESSAGE_QUEUE)
        assert (await preview_cleanup(job, archivist.context)).rows == 29
        assert len(await ids(archivist)) == 35
        assert (await run_cleanup(job, archivist.context)).rows == 29
        assert await ids(archivist) == ["msg-000000000007", *(f"msg-{number:012}" for number in range(101, 106))]
        records = await archived(archivist)
        assert len(records) == 29
        assert records[0]["message"]["recipient"] == "person1@example.com"
        assert [line["event"] for line in records[0]["history"]] == ["sent"]
        assert await archivist.run("SELECT * FROM concierge_history") == []
        assert (await run_cleanup(job, archivist.context)).rows == 0
        assert not archivist.sent


async def test_nobody_may_ask_for_what_policy_keeps(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing():
        fill(archivist.database.path, 10, since=clock.now_ms() - 89 * DAY_MS)
        await archivist.record_at(clock.now_ms() - 2_000 * DAY_MS, "ann", "login", "ann")
        for target in Target:
            future = asked(target, clock.now_ms() + 1_000 * DAY_MS)
            assert (await run_cleanup(future, archivist.context)).rows == 0
        assert len(await ids(archivist)) == 10


async def test_what_is_held_stays_until_the_hold_is_lifted(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing():
        fill(archivist.database.path, 12, since=clock.now_ms() - 91 * DAY_MS)  # every fourth by bea
        holds = archivist.holds
        message = await holds.place(ANN, HoldKind.MESSAGE, "msg-000000000001", "a complaint")
        await holds.place(ANN, HoldKind.USER, "bea", "an inquiry")
        await holds.place(ANN, HoldKind.RECIPIENT, "Person2@Example.com", "a lawsuit")
        job = asked(Target.MESSAGE_QUEUE)
        seen = await preview_cleanup(job, archivist.context)
        assert (seen.rows, seen.held) == (7, 5)
        assert (await run_cleanup(job, archivist.context)).rows == 7
        assert await ids(archivist) == [f"msg-{number:012}" for number in (1, 2, 4, 8, 12)]
        await holds.lift(ANN, message)
        assert (await run_cleanup(job, archivist.context)).rows == 1
        assert [hold.lifted_by for hold in await holds.list()][-1] == "ann"
        with pytest.raises(RefusedError):
            await holds.lift(ANN, message)
        with pytest.raises(FieldError):
            await holds.place(ANN, HoldKind.ALL, "everything", "why not")
        await holds.place(ANN, HoldKind.ALL, "", "everything stays")
        await archivist.run("UPDATE concierge_holds SET lifted_at = 1 WHERE kind <> 'all'")
        assert (await run_cleanup(job, archivist.context)).rows == 0


async def test_what_changes_or_is_held_between_archive_and_delete_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing():
        fill(archivist.database.path, 5, since=clock.now_ms() - 91 * DAY_MS)
        write = archivist.database.write
        is_first = [True]

        async def meanwhile(work: Any) -> Any:
            if is_first:
                is_first.clear()
                await archivist.run("UPDATE concierge_messages SET state = 'bounced' WHERE id = 'msg-000000000002'")
                holds = archivist.holds
                await holds.place(ANN, HoldKind.MESSAGE, "msg-000000000003", "just now")
            return await write(work)

        monkeypatch.setattr(archivist.database, "write", meanwhile)
        assert (await run_cleanup(asked(Target.MESSAGE_QUEUE), archivist.context)).rows == 4
        assert await ids(archivist) == ["msg-000000000003"]  # the other went with the next batch, as it was then
        second = [each for each in await archived(archivist) if each["message"]["id"] == "msg-000000000002"]
        assert sorted(each["message"]["state"] for each in second) == ["bounced", "delivered"]


@pytest.mark.parametrize("damage", ["lost", "changed"])
async def test_nothing_is_deleted_that_is_not_safely_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing():
        fill(archivist.database.path, 5, since=clock.now_ms() - 91 * DAY_MS)
        bucket = archivist.context.bucket
        put = bucket.put

        async def spoil(key: str, content: Any, **options: Any) -> Any:
            info = await put(key, content, **options)
            if damage == "lost":
                await bucket.delete(key)
            else:
                await put(key, gzip.compress(b"{}\n" * 5, mtime=0))
            return info

        monkeypatch.setattr(bucket, "put", spoil)
        with pytest.raises(ArchiveError):
            await run_cleanup(asked(Target.MESSAGE_QUEUE), archivist.context)
        assert len(await ids(archivist)) == 5


async def test_one_job_does_a_bounded_share_and_sends_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor_apps.concierge.cleanup.messages.BATCH_ROWS", 3)
    monkeypatch.setattr(cleaning, "BATCHES_MAX", 2)
    async with open_archivist(tmp_path) as archivist, archivist.app.testing():
        fill(archivist.database.path, 14, since=clock.now_ms() - 91 * DAY_MS)
        job = asked(Target.MESSAGE_QUEUE)
        rows: list[int] = []
        while not rows or archivist.sent:
            archivist.sent.clear()
            rows.append((await run_cleanup(job, archivist.context)).rows)
        assert rows == [6, 6, 2]
        assert len(await archived(archivist)) == 14


async def test_one_that_was_cut_short_after_its_archive_writes_the_same_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing():
        fill(archivist.database.path, 5, since=clock.now_ms() - 91 * DAY_MS)

        async def break_off(work: Any) -> Any:
            raise OSError("the machine went away")

        with monkeypatch.context() as broken:
            broken.setattr(archivist.database, "write", break_off)
            with pytest.raises(OSError, match="went away"):
                await run_cleanup(asked(Target.MESSAGE_QUEUE), archivist.context)
        keys = await archivist.keys("archive/")
        assert len(keys) == 1
        assert (await run_cleanup(asked(Target.MESSAGE_QUEUE), archivist.context)).rows == 5
        assert await archivist.keys("archive/") == keys


async def test_the_trail_goes_from_its_beginning_and_stays_a_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_room, "BATCH_ROWS", 4)
    async with open_archivist(tmp_path, pepper="pepper") as archivist, archivist.app.testing():
        long_ago = clock.now_ms() - 2_200 * DAY_MS
        for number in range(10):
            await archivist.record_at(long_ago + number, "ann", "login", "ann")
        await archivist.record_at(long_ago + 20, "bea", "message.send", "msg-1")
        await archivist.record_at(long_ago + 30, "ann", "logout", "ann")
        await archivist.record_at(clock.now_ms() - DAY_MS, "ann", "login", "ann")
        holds = archivist.holds
        hold = await holds.place(ANN, HoldKind.MESSAGE, "msg-1", "a complaint")
        job = asked(Target.AUDIT_LOGS)
        seen = await preview_cleanup(job, archivist.context)
        assert (seen.rows, seen.held) == (10, 2)
        assert (await run_cleanup(job, archivist.context)).rows == 10
        records = await archived(archivist)
        assert [each["number"] for each in records] == list(range(1, 11))
        examined = await Trail(archivist.database, pepper="pepper").verify()
        assert (examined.first, examined.faults) == (11, [])
        assert (await run_cleanup(job, archivist.context)).rows == 0
        await holds.lift(ANN, hold)
        assert (await run_cleanup(job, archivist.context)).rows == 2
        assert (await Trail(archivist.database, pepper="pepper").verify()).faults == []


async def test_dead_letters_are_archived_and_discarded(tmp_path: Path) -> None:
    app = Conveyor("other", url=f"sqlite:///{tmp_path / 'queue.db'}", wrangler=None)
    async with open_archivist(tmp_path) as archivist, archivist.app, app:
        for number in range(4):
            await archivist.app.queue(DEAD).send({"type": "email_send", "messageId": f"msg-{number}"})
        holds = archivist.holds
        await holds.place(ANN, HoldKind.MESSAGE, "msg-2", "a complaint")
        job = asked(Target.MESSAGE_QUEUE)
        assert (await preview_cleanup(job, archivist.context)).rows == 0  # they died just now
        future = clock.now_ms() + 10_000
        assert await count_dead_letters(archivist.context, future) == (3, 1)
        assert await clean_dead_letters(archivist.context, future) == 3
        assert await clean_dead_letters(archivist.context, future) == 0
        left = await archivist.context.dead_letters.page(0, 10)
        assert [json.loads(each.body)["messageId"] for each in left] == ["msg-2"]
        assert len(await archived(archivist)) == 3


async def test_files_of_no_export_go_and_exports_that_nobody_writes_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app:
        await archivist.context.bucket.put("exports/lost.csv", "left over")
        await archivist.context.bucket.put("exports/silent.csv", "being written")
        await archivist.exports.add(wanted("silent"))
        await archivist.exports.begin("silent", Extent(rows=1, last=1))
        await archivist.exports.add(wanted("waiting"))
        assert (await run_cleanup(asked(Target.TEMP_FILES), archivist.context)).rows == 0  # they may just be beginning
        later = clock.now_ms() + 2 * DAY_MS
        monkeypatch.setattr(clock, "now_ms", lambda: later)
        assert (await run_cleanup(asked(Target.TEMP_FILES), archivist.context)).rows == 2
        assert await archivist.keys() == []
        silent, waiting = await archivist.exports.find("silent"), await archivist.exports.find("waiting")
        assert silent is not None
        assert waiting is not None
        assert (silent.state, waiting.state) == (ExportState.FAILED, ExportState.QUEUED)


async def test_schedules_send_jobs_through_the_queue(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        for target in Target:
            await archivist.app.trigger(f"concierge-cleanup-{target.replace('_', '-')}")
            await kit.drain()
            [(job, at)] = archivist.sent
            assert (job.target, at) == (target, None)
            job.check()
            archivist.sent.clear()
