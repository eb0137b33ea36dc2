"""What plotburn reads from its environment, and how it says what is missing."""

import pytest

from conveyor_apps.plotburn.errors import SettingError
from conveyor_apps.plotburn.settings import CronMode, ResearchProvider, RoastProvider, read_settings

KEYS = {"API_SECRET_KEY": "s3cret", "TMDB_API_KEY": "t-key", "BRAVE_API_KEY": "b-key", "CLAUDE_API_KEY": "c-key"}


def test_the_defaults_are_the_documents_numbers() -> None:
    settings = read_settings(KEYS)
    assert (settings.cron_delay_ms, settings.cron_history_limit, settings.log_retention_days) == (500, 10, 7)
    assert (settings.kv_version, settings.movies_limit) == ("v1", 50)
    assert settings.cron_mode is CronMode.QUEUE
    assert settings.tmdb.base_url == "https://api.themoviedb.org"
    assert settings.claude.base_url == "https://api.anthropic.com"


@pytest.mark.parametrize("name", KEYS)
def test_a_missing_key_is_named(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        read_settings({**KEYS, name: "  "})


def test_only_the_keys_of_the_chosen_providers_are_needed() -> None:
    keys = {"API_SECRET_KEY": "s", "TMDB_API_KEY": "t", "PERPLEXITY_API_KEY": "p", "XAI_API_KEY": "x"}
    settings = read_settings({**keys, "RESEARCH_PROVIDER": "perplexity", "ROAST_PROVIDER": "Grok"})
    assert (settings.research, settings.roast) == (ResearchProvider.PERPLEXITY, RoastProvider.GROK)


def test_all_missing_keys_are_named_at_once() -> None:
    with pytest.raises(SettingError, match="`API_SECRET_KEY`, `BRAVE_API_KEY`, `CLAUDE_API_KEY`, `TMDB_API_KEY`"):
        read_settings({})


@pytest.mark.parametrize(
    ("name", "value"),
    [("CRON_DELAY_MS", "soon"), ("CRON_DELAY_MS", "-1"), ("CRON_HISTORY_LIMIT", "0"), ("CRON_MODE", "both"),
     ("TMDB_BASE_URL", "ftp://x"), ("RESEARCH_PROVIDER", "bing"), ("MOVIES_LIMIT", "501")],
)  # fmt: skip
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        read_settings({**KEYS, name: value})


def test_no_key_is_ever_printed() -> None:
    settings = read_settings(KEYS)
    for shown in (repr(settings), str(settings), f"{settings.tmdb.key}"):
        assert not any(key in shown for key in KEYS.values())
    assert settings.tmdb.key.reveal() == "t-key"
