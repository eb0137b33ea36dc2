"""The bench takes a reader's queue by its contract, and no figure from one that loses messages or handles them twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.field import gather_field
from bench.places import Files, store_in
from bench.program import MeasureError, Program
from bench.scenarios.drain import drain_once

COUNT = 50


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Introduced as `--peer guest:Guest --who guest`, from the folder in which it lies."""
    monkeypatch.chdir(Path(__file__).parent)
    field = gather_field(Files(), tmp_path, guests=["guest:Guest"], wanted=["guest"])
    assert not field.absent
    return field.programs["guest"]


def drained(program: Program, room: Path, way: str, calls: int) -> float:
    with store_in(Files(), room) as url:
        program.call("fill", url, count=COUNT)
        return drain_once(program, url, room, way, filled=COUNT, drained=calls).values["rate"]


def test_an_honest_queue_gets_a_figure(guest: Program, tmp_path: Path) -> None:
    assert drained(guest, tmp_path, "honest", COUNT) > 0


def test_a_message_handled_twice_is_no_figure(guest: Program, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="1 messages more than once"):
        drained(guest, tmp_path, "twice", COUNT + 1)


def test_a_lost_message_is_no_figure(guest: Program, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="sent 50, handled 49 and has 0 left"):
        drained(guest, tmp_path, "lost", COUNT - 1)


def test_a_peer_that_cannot_be_found_is_named(tmp_path: Path) -> None:
    field = gather_field(Files(), tmp_path, guests=["nowhere:Nobody"], wanted=["nobody"])
    assert not field.programs
    assert "nowhere" in field.absent["nowhere:Nobody"]
