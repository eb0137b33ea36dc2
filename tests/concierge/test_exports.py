"""An export as a job: whole or not at all, again and again the same, cancelled, kept from others, and told of."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
import pytest

from conveyor import JobProgress, JobState
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import Who
from conveyor_apps.concierge.cleanup import HoldKind, run_cleanup
from conveyor_apps.concierge.errors import RefusedError
from conveyor_apps.concierge.exports import exporter, make_link, run_export
from conveyor_apps.concierge.exports.reading import Reader
from conveyor_apps.concierge.exports.writing import key_of
from conveyor_apps.concierge.jobs import CleanupJob
from conveyor_apps.concierge.words import ExportState, Format, Role, Target

from .archivist import ANN, Archivist, fill, open_archivist, wanted
from .clinic import clinic

pytestmark = pytest.mark.anyio
SINCE = 1_760_000_000_000
ROWS = 10_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def body_of(archivist: Archivist, key: str) -> bytes:
    found = await archivist.context.bucket.get(key)
    assert found is not None
    return found.body


@pytest.mark.parametrize("format", list(Format))
async def test_an_export_holds_what_was_asked_for(tmp_path: Path, format: Format) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        fill(archivist.database.path, ROWS, since=SINCE)
        job = wanted(format=format, user="bea", state="failed", startDate=clock.iso(SINCE + 70))
        await run_export(job, archivist.context)
        assert await kit.drain() == 1
        body = await body_of(archivist, key_of("export-1", format))
        match format:
            case Format.CSV:
                ids = [row["id"] for row in csv.DictReader(io.StringIO(body.decode(), newline=""))]
            case Format.JSON:
                ids = [row["id"] for row in json.loads(body)]
            case Format.PARQUET:
                ids = pq.read_table(io.BytesIO(body)).column("id").to_pylist()
        assert ids == [f"msg-{number:012}" for number in range(20, ROWS + 1, 20)]
        found = await archivist.exports.find("export-1")
        assert found is not None
        assert (found.state, found.rows_done, found.rows_total) == (ExportState.READY, len(ids), len(ids))
        assert (found.bytes, found.sha256) == (len(body), hashlib.sha256(body).hexdigest())


async def test_its_user_is_told_and_its_end_is_arranged(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        fill(archivist.database.path, 10, since=SINCE)
        await run_export(wanted(), archivist.context)
        await run_export(wanted(), archivist.context)  # a second delivery of the same message
        await kit.drain()
        [(user, subject, text)] = archivist.notices
        assert (user, subject) == ("ann", "Your export is ready")
        assert "10 rows" in text
        assert "/exports/export-1" in text
        assert "token=" not in text  # what opens the file goes to who is signed in
        [(due, at)] = archivist.sent
        found = await archivist.exports.find("export-1")
        assert found is not None
        assert due == CleanupJob(target=Target.TEMP_FILES, older_than=clock.iso(found.expires_at or 0))
        assert at == (found.expires_at or 0) + 1_000


async def test_a_second_attempt_writes_the_same_file_whatever_came_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        fill(archivist.database.path, 100, since=SINCE)
        at_end = ["no room for the file"]
        finish = type(archivist.exports).finish

        async def break_off(*given: Any) -> bool:
            if at_end:
                raise OSError(at_end.pop())
            return await finish(*given)

        monkeypatch.setattr(type(archivist.exports), "finish", break_off)
        await run_export(wanted(), archivist.context)
        await kit.drain()
        first = await body_of(archivist, "exports/export-1.csv")
        waiting = await archivist.exports.find("export-1")
        assert waiting is not None
        assert (waiting.state, waiting.error) == (ExportState.QUEUED, "OSError")
        fill(archivist.database.path, 50, since=SINCE + 10_000, first=1_001)
        await kit.drain(within="1m")
        assert await body_of(archivist, "exports/export-1.csv") == first
        assert await archivist.keys() == ["exports/export-1.csv"]
        found = await archivist.exports.find("export-1")
        assert found is not None
        assert (found.state, found.rows_total) == (ExportState.READY, 100)


async def test_nobody_sees_half_a_file_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        fill(archivist.database.path, 2_000, since=SINCE)
        await archivist.context.bucket.put("exports/export-1.csv", "before")
        monkeypatch.setattr(exporter, "PAGE_ROWS", 100)
        rows = Reader.rows

        def fail_late(reader: Reader, statement: str, values: Any) -> Any:
            if values.get("after_id", "") >= "msg-000000001500":
                raise OSError("the disk went away")
            return rows(reader, statement, values)

        monkeypatch.setattr(Reader, "rows", fail_late)
        await run_export(wanted(), archivist.context)
        await kit.drain(within="1h")
        assert await body_of(archivist, "exports/export-1.csv") == b"before"
        found = await archivist.exports.find("export-1")
        assert found is not None
        assert (found.state, found.error) == (ExportState.FAILED, "OSError")  # three more attempts, no more
        assert [type(each) for each in archivist.safety.captured] == [OSError]
        assert not archivist.notices


async def test_filters_that_cannot_be_fail_at_once(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        await run_export(wanted(kind="fax"), archivist.context)
        await kit.drain()
        found = await archivist.exports.find("export-1")
        assert found is not None
        assert (found.state, found.error) == (ExportState.FAILED, "`filters.kind` must be `email` or `sms`")


async def test_progress_is_told_as_it_goes_and_a_cancelled_one_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a real worker: the export waits after its third page until it is cancelled."""
    async with open_archivist(tmp_path) as archivist, archivist.app:
        fill(archivist.database.path, 1_000, since=SINCE)
        monkeypatch.setattr(exporter, "PAGE_ROWS", 100)
        monkeypatch.setattr("conveyor_apps.concierge.exports.writing.TOLD_EVERY_S", 0.0)
        reached, go_on = asyncio.Event(), asyncio.Event()
        advance = type(archivist.exports).advance

        async def hesitate(exports: Any, export: str, rows: int) -> bool:
            if rows == 300:
                reached.set()
                await go_on.wait()
            return await advance(exports, export, rows)

        monkeypatch.setattr(type(archivist.exports), "advance", hesitate)
        worker = asyncio.create_task(archivist.app.work())
        try:
            await run_export(wanted(), archivist.context)
            await asyncio.wait_for(reached.wait(), 60)
            [running] = await archivist.app.jobs.list(name="export_generation")
            async with asyncio.timeout(60):
                async for event in archivist.app.jobs.get(running.id).follow():
                    if isinstance(event, JobProgress) and event.fraction >= 0.3:
                        assert event.note == "300 of 1,000 rows"
                        break
            assert await archivist.exports.cancel("export-1", ANN)
            go_on.set()
            async with asyncio.timeout(60):
                while (info := await archivist.app.jobs.get(running.id).info()).state is JobState.RUNNING:
                    await asyncio.sleep(0.02)
            assert info.state is JobState.SUCCEEDED
        finally:
            worker.cancel()
            await asyncio.wait({worker})
        assert await archivist.keys() == []
        found = await archivist.exports.find("export-1")
        assert found is not None
        assert found.state is ExportState.CANCELLED
        assert not archivist.notices


async def test_a_link_opens_one_file_until_it_ends(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        with pytest.raises(RefusedError):
            await make_link(archivist.context, "export-1", ANN)
        fill(archivist.database.path, 10, since=SINCE)
        await run_export(wanted(), archivist.context)
        await kit.drain()
        link = await make_link(archivist.context, "export-1", ANN)
        query = dict(httpx2.URL(link.url).params)
        links = archivist.app.bindings.links
        name = archivist.context.bucket.name
        now = archivist.app.store.clock.now_ms()
        assert links.read("GET", name, query, now).key == "exports/export-1.csv"
        with pytest.raises(Exception, match="link"):
            links.read("GET", name, {**query, "key": "exports/export-2.csv"}, now)
        with pytest.raises(Exception, match="link"):
            links.read("GET", name, query, now + 25 * 3_600_000)
        page = await archivist.trail.page(limit=1)
        assert [(each.actor, each.action, each.target) for each in page] == [("ann", "export.link", "export-1")]
        await archivist.exports.cancel("export-1", Who("bea"))  # too late: it stays
        assert (await make_link(archivist.context, "export-1", ANN)).sha256 == link.sha256


async def test_a_file_goes_when_its_time_is_over(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        fill(archivist.database.path, 10, since=SINCE)
        await run_export(wanted(), archivist.context)
        await kit.drain()
        later = CleanupJob(target=Target.TEMP_FILES, older_than=clock.iso(clock.now_ms() + 10**10))
        assert (await run_cleanup(later, archivist.context)).rows == 0  # nobody may hurry it
        await archivist.run("UPDATE concierge_exports SET expires_at = expires_at - :day", day=86_400_001)
        hold = await archivist.holds.place(ANN, HoldKind.EXPORT, "export-1", "a complaint")
        assert (await run_cleanup(later, archivist.context)).rows == 0
        await archivist.holds.lift(ANN, hold)
        assert (await run_cleanup(later, archivist.context)).rows == 1
        assert await archivist.keys() == []
        with pytest.raises(RefusedError):
            await make_link(archivist.context, "export-1", ANN)


async def test_an_auditor_gets_the_trail_and_no_messages(tmp_path: Path) -> None:
    async with clinic(tmp_path) as running, running.working():
        auditor, admin = running.as_(Role.AUDITOR), running.as_(Role.ADMIN)
        refused = await auditor.post("/api/exports", json={"filters": {}, "format": "csv"})
        assert refused.status_code == 403
        asked = await admin.post("/api/exports", json={"filters": {}, "format": "csv"})
        trail = await auditor.post("/api/exports", json={"filters": {"dataset": "audit"}, "format": "json"})
        assert (asked.status_code, trail.status_code) == (202, 202)
        for export in (asked.json()["id"], trail.json()["id"]):
            async with asyncio.timeout(60):
                while (await admin.get(f"/api/exports/{export}")).json()["state"] != "ready":
                    await asyncio.sleep(0.05)
        assert (await auditor.post(f"/api/exports/{asked.json()['id']}/link", json={})).status_code == 403
        assert (await admin.post(f"/api/exports/{asked.json()['id']}/link", json={})).status_code == 200
        assert (await auditor.post(f"/api/exports/{trail.json()['id']}/link", json={})).status_code == 200
        listed = (await admin.get("/api/messages")).json()["items"]
        assert sorted(each["recipient"] for each in listed) == [
            "admin@clinic.test",
            "auditor@clinic.test",
        ]  # the notices
