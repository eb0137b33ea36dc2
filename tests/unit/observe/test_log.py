"""Events as lines: one each, bounded, and never a reason to fail."""

from __future__ import annotations

import io
import json
import sys

import pytest

from conveyor.model.errors import InvalidSettingError
from conveyor.model.events import LeaseLost, MessageFailed, WorkerStarted
from conveyor.observe.log import make_log_sink


def a_failure(error: str = "OSError: torn") -> MessageFailed:
    return MessageFailed(queue="jobs", message_id="01", attempt=1, error=error)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    sink = make_log_sink("json")
    sink(a_failure())
    sink(WorkerStarted(owner=1, queues=("jobs",), concurrency=5))
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["error"]) == ("conveyor.message.failed", "warning", "OSError: torn")
    assert (second["event"], second["level"], second["queues"]) == ("conveyor.worker.started", "info", ["jobs"])
    assert first["timestamp"].endswith("Z")


@pytest.mark.parametrize("style", ["pretty", "json"])
def test_no_field_starts_a_line_or_fills_the_log(capsys: pytest.CaptureFixture[str], style: str) -> None:
    sink = make_log_sink(style)
    sink(a_failure("first\nsecond\x1b[2J" + "x" * 10_000))
    sink(LeaseLost(message_ids=tuple(map(str, range(1_000)))))
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2
    assert len(said) < 5_000
    assert "\x1b[2J" not in said
    assert "and 980 more" in said


def test_nobody_who_reads_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    make_log_sink("json")(a_failure())


def test_style_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CONVEYOR_LOG", "json")
    make_log_sink()(a_failure())
    assert capsys.readouterr().err.startswith("{")
    monkeypatch.setenv("CONVEYOR_LOG", "xml")
    with pytest.raises(InvalidSettingError, match="xml"):
        make_log_sink()
