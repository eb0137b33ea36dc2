"""generation's smaller parts: its settings, its log lines, and what a request may say."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from conveyor import ConveyorError, Dispatch
from conveyor_apps.generation import build_generation
from conveyor_apps.generation.errors import SettingError
from conveyor_apps.generation.logbook import Component, Logbook, LogLevel, LogStyle
from conveyor_apps.generation.records import GenerationRequest, ProviderName
from conveyor_apps.generation.settings import DispatchMode, read_settings
from conveyor_apps.generation.status import PROVIDER_CALLS
from generation.stage import stage
from generation.test_switching import switch


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


KEY = {"OMNI_API_KEY": "secret"}


def test_settings_are_the_documents_names() -> None:
    given = {"VEO3_API_KEY": "sesame", "GENERATION_PROVIDER": "gemini", "NEXTJS_URL": "http://next.test:3000/"}
    settings = read_settings({**given, "GENERATION_DISPATCH": "Alarm", "CONVEYOR_PORT": "9000"})
    assert settings.webhook_url == "http://next.test:3000/api/webhooks/worker"
    assert (settings.provider, settings.dispatch) == (ProviderName.GEMINI, DispatchMode.ALARM)
    assert (settings.tries, settings.poll_s, settings.timeout_s) == (3, 5, 300)
    assert settings.public_url == "http://127.0.0.1:9000"
    assert settings.keep_s == 30 * 86_400
    assert read_settings({**KEY, "GENERATION_KEEP": "forever"}).keep_s is None
    assert "sesame" not in repr(settings.gemini)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "OMNI_API_KEY"),
        ({"GENERATION_PROVIDER": "agent-platform"}, "GOOGLE_CLOUD_PROJECT"),
        ({**KEY, "NEXTJS_URL": "next.test"}, "NEXTJS_URL"),
        ({**KEY, "GENERATION_DISPATCH": "soon"}, "immediate or cron or alarm or queue"),
        ({**KEY, "GENERATION_POLL_S": "0"}, "from 1 to 60"),
        ({**KEY, "CONVEYOR_LOG": "loud"}, "CONVEYOR_LOG"),
        ({**KEY, "GENERATION_KEEP": "0d"}, "12h"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, str], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        read_settings(given)


def test_vars_of_a_wrangler_file_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document's `[vars]`; the environment, where `.dev.vars` go, counts more."""
    file = tmp_path / "wrangler.toml"
    file.write_text('name = "generation"\n[vars]\nNEXTJS_URL = "https://next.test"\nGENERATION_DISPATCH = "cron"\n')
    monkeypatch.setenv("OMNI_API_KEY", "secret")
    monkeypatch.setenv("GENERATION_DISPATCH", "alarm")
    settings = build_generation(url="memory://", wrangler=file).doorway.settings
    assert (settings.nextjs_url, settings.dispatch) == ("https://next.test", DispatchMode.ALARM)
    monkeypatch.delenv("OMNI_API_KEY")
    with pytest.raises(ConveyorError, match="OMNI_API_KEY"):
        build_generation(url="memory://", wrangler=None)


def test_a_line_has_a_level_a_component_an_action_and_fields() -> None:
    lines: list[str] = []
    log = Logbook(lambda: 1_700_000_000_000, write=lines.append)
    log.debug(Component.QUEUE, "not said")
    with log.about(generationId="gen_1"):
        log.warning(Component.PROVIDER, "Rate limited", after=7, nothing=None)
    log.error(Component.WEBHOOK, "Failed", error="x" * 9_000 + "\n")
    assert lines[0] == '2023-11-14T22:13:20.000Z WARN [PROVIDER] Rate limited {"generationId":"gen_1","after":7}'
    assert len(lines[1]) < 700
    machine = Logbook(lambda: 0, style=LogStyle.JSON, least=LogLevel.DEBUG, write=lines.append)
    machine.debug(Component.QUEUE, "Look", text="a\nb")
    assert json.loads(lines[2]) == {
        "timestamp": "1970-01-01T00:00:00.000Z", "level": "DEBUG", "component": "QUEUE", "action": "Look",
        "text": "a\nb",
    }  # fmt: skip
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "  "}, {"userId": ""}, {"priority": 10}, {"model": "../x"}, {"provider": "other"}, {"more": 1},
        {"parameters": {"duration": 0}}, {"parameters": {"aspectRatio": "1:1"}}, {"prompt": "x" * 4_001},
    ],
)  # fmt: skip
def test_a_request_is_checked(wrong: dict[str, object]) -> None:
    right = {"userId": "ann", "prompt": "a boat"}
    msgspec.convert(right, GenerationRequest)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(right | wrong, GenerationRequest)


@pytest.mark.anyio
async def test_figures_are_told_by_the_minute_and_kept_as_a_sum(tmp_path: Path) -> None:
    async with stage(tmp_path, works=False) as film:
        await film.room.statistics.count(PROVIDER_CALLS, 3)
        await film.clock.advance(60)
        await film.room.statistics.count(PROVIDER_CALLS)
        assert (await film.room.desk.status()).provider.calls_per_minute == 3
        for _ in range(2):
            await film.clock.advance(2 * 3_600)
            await film.room.statistics.count(PROVIDER_CALLS)
            await film.room.statistics.fold()
        found = (await film.room.desk.status()).provider
        assert (found.calls, found.calls_per_minute) == (6, 0)
        await switch(film, Dispatch.CRON)
        assert (await film.room.desk.status()).mode is DispatchMode.CRON, "as it is operated, whatever was declared"
