"""What a Worker's file says of an app: what is followed, what is refused by name, and how it meets the decorators."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from conveyor import Backoff, Conveyor, CronRun, Message
from conveyor.model.beside import CronSyntaxError
from conveyor.model.errors import InvalidSettingError
from conveyor.wrangler import Worker, find_file, read_file, strip_jsonc

pytestmark = pytest.mark.anyio

GUIDE = """
name = "plotburn-movie-api"
main = "src/index.ts"
compatibility_date = "2025-01-01"

[vars]
ENVIRONMENT = "production"
LIMITS = { movies = 50 }

[[queues.producers]]
queue = "movie-processing-queue"
binding = "MOVIE_QUEUE"

[[queues.consumers]]
queue = "movie-processing-queue"
max_batch_size = 1
max_concurrency = 4
max_retries = 7
retry_delay = 30
dead_letter_queue = "movie-processing-dead"

[triggers]
crons = ["30 16 * * *"]

[[kv_namespaces]]
binding = "CACHE"
id = "0123456789abcdef0123456789abcdef"

[[r2_buckets]]
binding = "UPLOADS"
bucket_name = "movie-uploads"

[[d1_databases]]
binding = "DB"
database_name = "plotburn-db"
database_id = "f97a6e55-6380-4a75-9703-73c6616ae0c2"

[env.staging]
vars = { ENVIRONMENT = "staging" }
[[env.staging.queues.producers]]
queue = "staging-queue"
binding = "MOVIE_QUEUE"
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("CONVEYOR_WRANGLER", "CLOUDFLARE_ENV", "CONVEYOR_URL", "CONVEYOR_FILES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(folder: Path, text: str, name: str = "wrangler.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def an_app(**options: Any) -> Conveyor:
    return Conveyor("movies", url="memory://", **options)


def consume(app: Conveyor, queue: str = "movie-processing-queue", **options: Any) -> None:
    @app.consumer(queue, **options)
    async def roast(message: Message[str]) -> None: ...


def schedule(app: Conveyor, expression: str = "30 16 * * *", **options: Any) -> None:
    @app.cron(expression, **options)
    async def daily(run: CronRun) -> None: ...


# Reading


def test_a_file_is_read_section_by_section(folder: Path) -> None:
    found = read_file(write(folder, GUIDE))
    assert found.name == "plotburn-movie-api"
    assert dict(found.vars) == {"ENVIRONMENT": "production", "LIMITS": {"movies": 50}}
    assert found.producers == {"movie-processing-queue": None}
    assert found.consumers["movie-processing-queue"]["max_concurrency"] == 4
    assert found.crons == ("30 16 * * *",)
    assert found.namespaces == {"CACHE": "0123456789abcdef0123456789abcdef"}
    assert found.buckets == {"UPLOADS": "movie-uploads"}
    assert found.databases == {"DB": ("f97a6e55-6380-4a75-9703-73c6616ae0c2", "plotburn-db")}


def test_an_environment_inherits_triggers_and_no_queues(folder: Path) -> None:
    found = read_file(write(folder, GUIDE), "staging")
    assert (dict(found.vars), found.producers, found.consumers) == (
        {"ENVIRONMENT": "staging"},
        {"staging-queue": None},
        {},
    )
    assert found.name == "plotburn-movie-api-staging"
    assert (found.crons, found.namespaces, found.buckets) == (("30 16 * * *",), {}, {})


def test_an_environment_that_is_not_there_names_those_that_are(folder: Path) -> None:
    with pytest.raises(InvalidSettingError, match=r"no `env.prod`.*`staging`"):
        read_file(write(folder, GUIDE), "prod")


def test_an_environment_answers_for_its_own_bindings_alone(folder: Path) -> None:
    path = write(folder, '[ai]\nbinding = "AI"\n[env.plain]\n[env.smart.ai]\nbinding = "AI"\n[env.web]\nname = "web"')
    assert read_file(path, "plain").vars == {}
    assert read_file(path, "web").name == "web"
    with pytest.raises(InvalidSettingError, match=r"`ai`.*env\.smart"):
        read_file(path, "smart")


def test_jsonc_says_the_same_as_toml(folder: Path) -> None:
    table = {
        "$schema": "node_modules/wrangler/config-schema.json",
        "queues": {"consumers": [{"queue": "q", "max_batch_timeout": 3, "max_concurrency": None}]},
        "triggers": {"crons": ["*/5 * * * *"]},
    }
    text = json.dumps(table, indent=1).replace('"queue": "q",', '"queue": "q", // "the" queue, /* , ]')
    text = text.replace("]\n }", "],\n /* the\n end */ }")
    as_json = read_file(write(folder, json.dumps(table), "wrangler.json"))
    as_jsonc = read_file(write(folder, "\ufeff" + text, "wrangler.jsonc"))
    assert as_jsonc.consumers == as_json.consumers == {"q": {"max_batch_timeout": 3}}
    assert as_jsonc.crons == as_json.crons == ("*/5 * * * *",)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('{"a": 1, }', '{"a": 1  }'),
        ('["//", "/*", "*/", ",]"]', '["//", "/*", "*/", ",]"]'),
        (r'["\"//", 1] // x', r'["\"//", 1]     '),
        ("[1, // last\n]", "[1         \n]"),
        ("[1 /* , */ , /* x\n*/ ]", "[1" + 15 * " " + "\n   ]"),
        ('{"a": "b,}"}', '{"a": "b,}"}'),
    ],
)  # fmt: skip
def test_comments_and_trailing_commas_become_spaces(text: str, plain: str) -> None:
    assert strip_jsonc(text) == plain
    json.loads(plain)


@pytest.mark.parametrize(
    ("name", "text"),
    [("wrangler.jsonc", "{"), ("wrangler.jsonc", '{"a": 1,, }'), ("wrangler.json", "[]"), ("wrangler.json", "[" * 100_000), ("wrangler.toml", "a ="), ("wrangler.jsonc", "{} /*")],
)  # fmt: skip
def test_a_broken_file_is_an_error_that_names_it(folder: Path, name: str, text: str) -> None:
    write(folder, text, name)
    with pytest.raises(InvalidSettingError, match=name):
        an_app()


def test_what_is_not_text_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "wrangler.toml").write_bytes(b"\xff")
    with pytest.raises(InvalidSettingError, match="cannot be read"):
        an_app()


def test_the_nearest_file_upward_counts_and_json_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = folder / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    for name in ("wrangler.toml", "wrangler.jsonc", "wrangler.json"):
        write(folder, '[vars]\nA = "toml"' if name.endswith("toml") else f'{{"vars": {{"A": "{name}"}}}}', name)
        assert find_file(below) == folder / name
        assert an_app().vars["A"] == ("toml" if name.endswith("toml") else name)


def test_python_and_the_environment_choose_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, '[vars]\nA = "near"')
    write(folder, '[vars]\nA = "other"\n[env.x.vars]\nA = "x"', "other.toml")
    assert an_app(wrangler="other.toml").vars["A"] == "other"
    assert an_app(wrangler=None).worker == Worker()
    assert an_app(wrangler=Path("other.toml"), environment="x").vars["A"] == "x"
    monkeypatch.setenv("CONVEYOR_WRANGLER", "other.toml")
    monkeypatch.setenv("CLOUDFLARE_ENV", "x")
    assert an_app().vars["A"] == "x"
    monkeypatch.setenv("CONVEYOR_WRANGLER", "")
    assert an_app().worker == Worker()


@pytest.mark.parametrize(
    ("text", "named", "hinted"),
    [
        ("quues = {}", "quues", "`queues`"),
        ('[[queues.consumers]]\nqueue = "q"\nmax_retrys = 3', "queues.consumers[0].max_retrys", "max_retries"),
        ('[[queues.producers]]\nqueue = "q"\nbinding = "Q"\nfanout = 3', "queues.producers[0].fanout", ""),
        ("[queues]\nconsumer = []", "queues.consumer", "queues.consumers"),
        ('[triggers]\ncron = ["* * * * *"]', "triggers.cron", "triggers.crons"),
        ('[[kv_namespaces]]\nbinding = "A"\nttl = 3', "kv_namespaces[0].ttl", ""),
        ('[[r2_buckets]]\nbinding = "A"\nbucket = "b"', "r2_buckets[0].bucket", "bucket_name"),
        ('[[d1_databases]]\nbinding = "A"\nid = "b"', "d1_databases[0].id", ""),
        ('[durable_objects]\nbindings = [{name = "A", class_name = "B"}]', "durable_objects", "app.kv"),
        ('[[services]]\nbinding = "A"\nservice = "b"', "services", "HTTP"),
        ('[ai]\nbinding = "AI"', "ai", "CONVEYOR_WRANGLER"),
        ('[[queues.consumers]]\nqueue = "q"\ntype = "http_pull"', "queues.consumers[0].type", "http add q"),
        ('[[queues.consumers]]\nqueue = "q"\n[[queues.consumers]]\nqueue = "q"', "queues.consumers[1].queue", ""),
        ('[[queues.consumers]]\nqueue = "q"\nmax_retries = "three"', "queues.consumers[0].max_retries", ""),
        ("[[queues.consumers]]\nmax_retries = 3", "queues.consumers[0]", ""),
        ('[[queues.producers]]\nqueue = "q"', "queues.producers[0]", ""),
        ("triggers = 3", "triggers", ""),
        ("[env.x]\nquues = {}", "quues", "`queues`"),
    ],
)  # fmt: skip
def test_what_would_change_behaviour_and_is_not_followed_is_named(
    folder: Path, text: str, named: str, hinted: str
) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        read_file(write(folder, text), "x" if text.startswith("[env.x]") else None)
    assert caught.value.facts["name"] == named
    assert hinted in caught.value.hint
    assert "wrangler.toml" in str(caught.value)


def test_what_changes_nothing_is_accepted(folder: Path) -> None:
    harmless = """
name = "w"
main = "src/entry.py"
compatibility_date = "2025-06-01"
compatibility_flags = ["python_workers"]
account_id = "0123456789abcdef0123456789abcdef"
workers_dev = true
preview_urls = false
routes = ["example.com/*"]
durable_objects = {}
services = []
[limits]
cpu_ms = 300000
[observability]
enabled = true
[build]
command = "make"
"""
    assert read_file(write(folder, harmless)).name == "w"


# What an app makes of it


async def test_consumers_take_what_the_file_says(folder: Path) -> None:
    write(folder, GUIDE)
    app = an_app()
    consume(app)
    schedule(app)
    async with app:
        settings = (await app.info("movie-processing-queue")).consumer
    assert settings is not None
    assert (settings.max_batch_size, settings.max_concurrency, settings.max_retries) == (1, 4, 7)
    assert (settings.retry_delay.base_ms, settings.dead_letter_queue) == (30_000, "movie-processing-dead")
    assert settings.max_batch_timeout_ms == 5_000


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": 7},
        {"retry_delay": "30s"},
        {"retry_delay": timedelta(seconds=30)},
        {"retry_delay": Backoff.fixed(30)},
        {"max_batch_timeout": 9},
        {"dead_letter_queue": "movie-processing-dead"},
    ],
)
def test_python_may_say_the_same_or_what_the_file_does_not(folder: Path, options: dict[str, Any]) -> None:
    write(folder, GUIDE)
    consume(an_app(), **options)


@pytest.mark.parametrize(
    ("options", "both"),
    [
        ({"max_retries": 3}, "3.* 7"),
        ({"retry_delay": 31}, "31.* 30"),
        ({"retry_delay": Backoff.exponential("30s")}, "30"),
        ({"max_concurrency": None}, "None.* 4"),
        ({"dead_letter_queue": None}, "None.*movie-processing-dead"),
        ({"max_batch_size": 10}, "10.* 1"),
    ],
)
def test_a_decorator_that_says_otherwise_is_an_error_naming_both(
    folder: Path, options: dict[str, Any], both: str
) -> None:
    write(folder, GUIDE)
    with pytest.raises(InvalidSettingError, match=f"(?s){both}") as caught:
        consume(an_app(), **options)
    assert "@app.consumer('movie-processing-queue')" in str(caught.value)
    assert "`wrangler.toml`" in str(caught.value)
    assert caught.value.facts["name"] == next(iter(options))


def test_values_out_of_bounds_are_refused_as_ever(folder: Path) -> None:
    write(folder, '[[queues.consumers]]\nqueue = "q"\nmax_retries = 101')
    with pytest.raises(InvalidSettingError, match="max_retries"):
        consume(an_app(), "q")


async def test_a_consumer_without_a_function_stops_the_start(folder: Path) -> None:
    write(folder, '[[queues.consumers]]\nqueue = "lonely"')
    app = an_app()
    with pytest.raises(InvalidSettingError, match="no function of this app consumes it.*`wrangler.toml`") as caught:
        await app.ensure_open()
    assert "@app.consumer('lonely')" in caught.value.hint


async def test_producers_make_their_queues(folder: Path) -> None:
    write(folder, '[[queues.producers]]\nqueue = "later"\nbinding = "Q"\ndelivery_delay = 60')
    async with an_app() as app:
        assert (await app.info("later")).settings.delivery_delay_ms == 60_000


@pytest.mark.parametrize("text", ["30 16 * * *", "*/5 * * * *", "0 17 * * SUN"])
async def test_a_cron_is_met_by_a_schedule_that_means_the_same(folder: Path, text: str) -> None:
    write(folder, f'[triggers]\ncrons = ["{text}"]')
    app = an_app()
    schedule(app, text)
    async with app:
        assert [each.draft.expression for each in await app.store.list_schedules()] == [text]


@pytest.mark.parametrize(
    ("cron", "declared", "said"),
    [
        ("30 16 * * *", None, "no schedule of this app runs then"),
        ("30 16 * * *", {"expression": "31 16 * * *"}, "no schedule of this app runs then"),
        ("30 16 * * *", {"expression": "30 16 * * *", "timezone": "Europe/Berlin"}, "by the clock of Europe/Berlin"),
        ("0 17 * * 1", {"expression": "0 17 * * 1"}, "Sunday is 1"),
    ],
)
async def test_a_cron_that_nothing_runs_is_named(
    folder: Path, cron: str, declared: dict[str, str] | None, said: str
) -> None:
    write(folder, f'[triggers]\ncrons = ["* * * * *", "{cron}"]')
    app = an_app()
    app.cron("* * * * *")(always)
    if declared is not None:
        schedule(app, **declared)
    with pytest.raises(InvalidSettingError, match=said) as caught:
        await app.ensure_open()
    assert caught.value.facts["name"] == "triggers.crons[1]"


async def always(run: CronRun) -> None: ...


async def test_a_cron_that_is_none_is_an_error(folder: Path) -> None:
    write(folder, '[triggers]\ncrons = ["0 0 * * 0"]')
    with pytest.raises(CronSyntaxError):
        await an_app().ensure_open()


async def test_bindings_name_namespaces_and_buckets(folder: Path) -> None:
    write(
        folder,
        '[[kv_namespaces]]\nbinding = "CACHE"\n[[r2_buckets]]\nbinding = "UPLOADS"\nbucket_name = "movie-uploads"',
    )
    async with an_app() as app:
        await app.kv("CACHE").put("a", "1")
        await app.bucket("UPLOADS").put("a", b"1")
        assert app.bucket("UPLOADS").name == "movie-uploads"
        assert await app.bucket("movie-uploads").head("a") is not None


async def test_a_kit_takes_the_file_too(folder: Path) -> None:
    write(folder, GUIDE)
    app = an_app()
    consume(app)
    schedule(app)
    async with app.testing() as kit:
        await app.queue("movie-processing-queue").send("x")
        assert await kit.drain() == 1
