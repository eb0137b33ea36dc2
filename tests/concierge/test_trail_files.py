"""The trail as a file: whoever has it can tell by itself whether it is what was written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
import pytest
from click.testing import CliRunner

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import Who
from conveyor_apps.concierge.cleanup import run_cleanup
from conveyor_apps.concierge.commands_records import cleanup, verify
from conveyor_apps.concierge.exports import run_export, verify_file
from conveyor_apps.concierge.exports.errors import ExportError
from conveyor_apps.concierge.jobs import CleanupJob
from conveyor_apps.concierge.words import Format, Target

from .archivist import DAY_MS, open_archivist, wanted

pytestmark = pytest.mark.anyio
Records = list[dict[str, Any]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def exported(folder: Path, format: Format, *, pepper: str | None = None, **filters: Any) -> Path:
    """A file of 14 records, each with a name that a spreadsheet would compute."""
    async with open_archivist(folder, pepper=pepper) as archivist, archivist.app.testing() as kit:
        for number in range(14):
            who = Who("ann" if number % 2 else "bea", "admin", "" if number % 3 else "127.0.0.1")
            await archivist.trail.record(who, "message.send", f"=msg-{number}")
        await run_export(wanted(format=format, dataset="audit", **filters), archivist.context)
        await kit.drain()
        found = await archivist.context.bucket.get(f"exports/export-1.{format}")
        assert found is not None
    path = folder / f"trail.{format}"
    path.write_bytes(found.body)
    return path


@pytest.mark.parametrize("pepper", [None, "a pepper that only the server knows"])
@pytest.mark.parametrize("format", list(Format))
async def test_a_file_proves_itself(tmp_path: Path, format: Format, pepper: str | None) -> None:
    path = await exported(tmp_path, format, pepper=pepper)
    found = verify_file(path, pepper=pepper)
    assert found.is_sound
    assert (found.records, found.first, found.last, found.gaps) == (14, 1, 14, 0)
    assert verify_file(path, pepper=pepper, expected=found.head).is_sound
    assert not verify_file(path, pepper=pepper, expected=f"15:{'0' * 64}").is_sound


async def test_a_filtered_file_has_gaps_and_is_sound(tmp_path: Path) -> None:
    found = verify_file(await exported(tmp_path, Format.CSV, user="ann", kind="message.*"))
    assert found.is_sound
    assert (found.records, found.gaps) == (7, 6)


async def test_without_the_pepper_links_are_checked_and_nothing_is_called_sound(tmp_path: Path) -> None:
    found = verify_file(await exported(tmp_path, Format.JSON, pepper="secret"))
    assert not found.faults
    assert not found.are_hashes_checked
    assert not found.is_sound


def edit(records: Records) -> None:
    records[10]["actor"] = "eve"


def edit_the_first(records: Records) -> None:
    records[0]["actor"] = "eve"


def take_out(records: Records) -> None:
    del records[10]


def take_out_and_renumber(records: Records) -> None:
    del records[10]
    for number, record in enumerate(records, start=1):
        record["number"] = number


def swap(records: Records) -> None:
    records[10], records[11] = records[11], records[10]


def repeat(records: Records) -> None:
    records.insert(10, records[10])


@pytest.mark.parametrize("tamper", [edit, edit_the_first, take_out_and_renumber, swap, repeat])
async def test_what_was_changed_shows(tmp_path: Path, tamper: Callable[[Records], None]) -> None:
    path = await exported(tmp_path, Format.JSON)
    records: Records = json.loads(path.read_bytes())
    tamper(records)
    path.write_text("[\n" + ",\n".join(json.dumps(each) for each in records) + "\n]\n", encoding="utf-8")
    found = verify_file(path)
    assert found.faults
    assert not found.is_sound


async def test_what_was_taken_out_is_a_gap_that_a_file_of_dates_does_not_have(tmp_path: Path) -> None:
    path = await exported(tmp_path, Format.JSON)
    records: Records = json.loads(path.read_bytes())
    take_out(records)
    path.write_text("[\n" + ",\n".join(json.dumps(each) for each in records) + "\n]\n", encoding="utf-8")
    assert verify_file(path).gaps == 1


async def test_one_cell_of_csv_or_parquet_shows(tmp_path: Path) -> None:
    table = await exported(tmp_path, Format.PARQUET)
    rows = pq.read_table(table)
    changed = rows.set_column(3, "role", pa.array(["admin"] * 13 + ["owner"]))
    pq.write_table(changed, table)
    assert [fault.number for fault in verify_file(table).faults] == [14]
    (tmp_path / "sheet").mkdir()
    sheet = await exported(tmp_path / "sheet", Format.CSV)
    with sheet.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    lines[5][6] = "'=msg-5"
    with sheet.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    assert [fault.number for fault in verify_file(sheet).faults] == [5]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"[\n{}\n]\n", b"PAR1", b"\x1f\x8bnothing", b"[\n{]\n"])
async def test_what_is_no_trail_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="cannot be read"):
        verify_file(path)


async def test_an_archive_of_the_trail_proves_itself_and_what_is_left_follows_it(tmp_path: Path) -> None:
    async with open_archivist(tmp_path) as archivist, archivist.app.testing() as kit:
        for number in range(10):
            age = (2_200 if number < 6 else 1) * DAY_MS
            await archivist.record_at(clock.now_ms() - age, "ann", "login", f"ann-{number}")
        job = CleanupJob(target=Target.AUDIT_LOGS, older_than=clock.iso(clock.now_ms()))
        assert (await run_cleanup(job, archivist.context)).rows == 6
        [key] = await archivist.keys("archive/")
        body = await archivist.context.bucket.get(key)
        assert body is not None
        old = tmp_path / "old.jsonl.gz"
        old.write_bytes(body.body)
        await run_export(wanted(dataset="audit"), archivist.context)
        await kit.drain()
        rest = await archivist.context.bucket.get("exports/export-1.csv")
        assert rest is not None
        new = tmp_path / "new.csv"
        new.write_bytes(rest.body)
        former, latter = verify_file(old), verify_file(new)
        assert former.is_sound
        assert latter.is_sound
        assert (former.last, latter.first) == (6, 7)
        first = next(csv.DictReader(new.read_text(encoding="utf-8").splitlines()))
        assert f"6:{first['previous']}" == former.head


async def test_the_command_says_it_by_its_exit_code(tmp_path: Path) -> None:
    path = await exported(tmp_path, Format.CSV, pepper="a pepper")
    sha256 = verify_file(path, pepper="a pepper").sha256
    call = CliRunner(env={"CONVEYOR_PEPPER": "a pepper"}).invoke
    sound = call(verify, [str(path), "--sha256", sha256])
    assert sound.exit_code == 0
    assert json.loads(sound.output)["records"] == 14
    assert call(verify, [str(path), "--sha256", "0" * 64]).exit_code == 1
    assert call(verify, [str(path), "--expected", f"15:{'0' * 64}"]).exit_code == 1
    assert call(verify, [str(path), "--expected", "15"]).exit_code == 2
    without = CliRunner(env={"CONVEYOR_PEPPER": None}).invoke(verify, [str(path)])
    assert (without.exit_code, "CONVEYOR_PEPPER" in without.output) == (1, True)
    path.write_text("nothing", encoding="utf-8")
    assert call(verify, [str(path)]).exit_code == 2


def test_the_commands_open_the_tables_by_themselves(tmp_path: Path) -> None:
    environment = {"CONVEYOR_URL": f"sqlite:///{tmp_path}/conveyor.db", "CONCIERGE_DATA": str(tmp_path / "data")}
    call = CliRunner(env=environment).invoke
    seen = call(cleanup, ["message_queue", "--dry-run"])
    assert (seen.exit_code, json.loads(seen.output)["isDry"]) == (0, True)
    assert call(cleanup, ["message_queue", "--older-than", "yesterday"]).exit_code == 2
    assert call(cleanup, ["temp_files"]).exit_code == 0
    whole = call(verify, [])
    assert (whole.exit_code, json.loads(whole.output)["records"]) == (0, 1)
