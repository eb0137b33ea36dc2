"""The real wrangler drives D1, R2, secrets and triggers of an app; and the deployment guide of the movie application,
line by line, where it speaks of them. The guide's own lines are marked; all but the guide runs in the long campaign, since
each command takes a second or two, and tests/server asks the same of the server without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from conveyor.model.errors import InvalidSettingError
from conveyor.wrangler import read_file
from kit.wrangler import Server, Wrangler, fetch, served

pytestmark = pytest.mark.timeout(600)  # on a first run wrangler is installed

SECRETS: Final = ("TMDB_API_KEY", "XAI_API_KEY", "BRAVE_API_KEY", "CLAUDE_API_KEY", "API_SECRET_KEY")
CANARY: Final = "canary-4c1d-never-shown"
APP: Final = """
from conveyor import Conveyor, CronRun, Message

app = Conveyor("plotburn-movie-api")


@app.consumer("movie-processing-queue")
async def roast(message: Message[str]) -> None:
    await app.secrets.refresh()
    await app.kv("SEEN").put(message.body, str(len(app.secrets[message.body])))


@app.cron("30 16 * * *")
async def daily(run: CronRun) -> None: ...
"""
FILE: Final = """
name = "plotburn-movie-api"
main = "src/index.js"
compatibility_date = "2025-01-01"

[[queues.producers]]
queue = "movie-processing-queue"
binding = "MOVIE_QUEUE"

[[queues.consumers]]
queue = "movie-processing-queue"
max_batch_size = 1
max_concurrency = 4
max_retries = 3
dead_letter_queue = "movie-processing-dlq"

[triggers]
crons = ["30 16 * * *"]

[[d1_databases]]
binding = "DB"
database_name = "plotburn-db"
database_id = "f97a6e55-6380-4a75-9703-73c6616ae0c2"
"""
WORKER: Final = "export default { async fetch() {}, async queue() {}, async scheduled() {} }"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "wrangler.toml").write_text(FILE, encoding="utf-8")
    with served(folder, APP) as server:
        yield server


@pytest.fixture
def run(wrangler: Callable[..., Wrangler]) -> Wrangler:
    """In the project's folder: its file and its Worker."""
    run = wrangler()
    (run.folder / "wrangler.toml").write_text(FILE, encoding="utf-8")
    (run.folder / "src").mkdir()
    (run.folder / "src" / "index.js").write_text(WORKER, encoding="utf-8")
    return run


def file_of(server: Server) -> Path:
    return Path(server.store.removeprefix("sqlite:///"))


def test_the_guide_but_for_its_queues(run: Wrangler, server: Server) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: run.ok("secret", "put", name, typed=f"{CANARY}-{name}\n"), SECRETS))  # the guide
    assert {each["name"] for each in json.loads(run.ok("secret", "list"))} >= set(SECRETS)
    tables = "SELECT name FROM sqlite_master WHERE type='table';"
    run.ok(
        "d1",
        "execute",
        "plotburn-db",
        "--remote",
        "--yes",
        "--command=CREATE TABLE roasts (movie_id, created_at, is_active)",
    )
    assert "roasts" in run.ok("d1", "execute", "plotburn-db", "--remote", f"--command={tables}")  # the guide
    assert "movie-processing-dlq" in run.ok("queues", "list")  # the guide
    latest = "\n  SELECT \n    movie_id, \n    created_at,\n    is_active\n  FROM roasts \n  ORDER BY created_at DESC \n  LIMIT 10;\n"
    run.ok("d1", "execute", "plotburn-db", "--remote", f"--command={latest}")  # the guide
    assert "conveyor serve MODULE:APP" in run.fails("deploy")  # the guide: the app runs beside, not on, its store
    assert "conveyor tail" in run.fails("tail")  # the guide
    assert "(100%)" in run.ok("deployments", "list")  # the guide
    held = [
        path for path in file_of(server).parent.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert held == []


@pytest.mark.campaign
def test_triggers_reach_the_consumer_and_the_crons(run: Wrangler) -> None:
    changed = FILE.replace("max_concurrency = 4", "max_concurrency = 2").replace('["30', '["59 23 LW * *", "30')
    (run.folder / "wrangler.toml").write_text(changed, encoding="utf-8")
    said = run.ok("triggers", "deploy")
    assert "schedule: 59 23 LW * *" in said
    assert "Consumer for movie-processing-queue" in said
    [consumer] = json.loads(run.ok("queues", "consumer", "list", "movie-processing-queue", "--json"))
    assert consumer["settings"]["max_concurrency"] == 2
    (run.folder / "wrangler.toml").write_text(FILE.replace("30 16 * * *", "0 0 * * 0"), encoding="utf-8")
    assert "invalid cron string: 0 0 * * 0 [code: 10100]" in run.fails("triggers", "deploy")


@pytest.mark.campaign
def test_secrets_one_by_one_and_in_bulk(run: Wrangler) -> None:
    run.ok("secret", "put", "ONE", typed="1\n")
    (run.folder / "bulk.json").write_text('{"TWO": "2", "THREE": "3"}', encoding="utf-8")
    run.ok("secret", "bulk", "bulk.json")
    names = {each["name"] for each in json.loads(run.ok("secret", "list"))}
    assert {"ONE", "TWO", "THREE"} <= names
    run.ok("secret", "delete", "TWO")
    assert {each["name"] for each in json.loads(run.ok("secret", "list"))} == names - {"TWO"}
    assert "10056" in run.fails("secret", "delete", "TWO")


@pytest.mark.campaign
def test_a_secret_before_its_worker_and_the_end_of_both(run: Wrangler) -> None:
    assert 'Worker "fresh" not found' in run.fails("secret", "list", "--name", "fresh")
    run.ok("secret", "put", "A", "--name", "fresh", typed="1\n")
    assert [each["name"] for each in json.loads(run.ok("secret", "list", "--name", "fresh"))] == ["A"]
    assert "Successfully deleted fresh" in run.ok("delete", "--name", "fresh", "--force")
    assert 'Worker "fresh" not found' in run.fails("secret", "list", "--name", "fresh")
    assert "stop `conveyor serve` first" in run.fails("delete", "--name", "plotburn-movie-api", "--force")


@pytest.mark.campaign
def test_a_database_from_its_making_to_its_end(run: Wrangler) -> None:
    (run.folder / "wrangler.toml").unlink()
    assert "Successfully created DB 'db1'" in run.ok("d1", "create", "db1")
    assert "already exists" in run.fails("d1", "create", "db1")
    assert "db1" in [each["name"] for each in json.loads(run.ok("d1", "list", "--json"))]
    sql = "CREATE TABLE t(a INTEGER); INSERT INTO t VALUES (1), (2);"
    run.ok("d1", "execute", "db1", "--remote", "--yes", "--command", sql)
    [read] = json.loads(
        run.ok("d1", "execute", "db1", "--remote", "--yes", "--json", "--command", "SELECT sum(a) AS s FROM t")
    )
    assert (read["results"], read["meta"]["rows_read"]) == ([{"s": 3}], 2)
    assert json.loads(run.ok("d1", "info", "db1", "--json"))["num_tables"] == 1
    assert "no such table: nope: SQLITE_ERROR" in run.fails(
        "d1", "execute", "db1", "--remote", "--yes", "--command", "SELECT * FROM nope"
    )
    assert "SQLITE_AUTH" in run.fails("d1", "execute", "db1", "--remote", "--yes", "--command", "ATTACH 'x' AS x")
    run.ok("d1", "delete", "db1", "--skip-confirmation")
    assert "Couldn't find" in run.fails("d1", "info", "db1")


@pytest.mark.campaign
def test_a_bucket_from_its_making_to_its_end(run: Wrangler) -> None:
    (run.folder / "f.txt").write_text("hello r2", encoding="utf-8")
    run.ok("r2", "bucket", "create", "bkt")
    assert "10004" in run.fails("r2", "bucket", "create", "bkt")
    assert "bkt" in run.ok("r2", "bucket", "list")
    assert "bkt" in run.ok("r2", "bucket", "info", "bkt")
    run.ok("r2", "object", "put", "bkt/dir/f.txt", "--file", "f.txt", "--remote")
    assert run.ok("r2", "object", "get", "bkt/dir/f.txt", "--pipe", "--remote") == "hello r2"
    assert "10008" in run.fails("r2", "bucket", "delete", "bkt")
    run.ok("r2", "object", "delete", "bkt/dir/f.txt", "--remote")
    assert "does not exist" in run.fails("r2", "object", "get", "bkt/dir/f.txt", "--pipe", "--remote")
    run.ok("r2", "bucket", "delete", "bkt")


@pytest.mark.parametrize("lock", ["node20", pytest.param("node22", marks=pytest.mark.campaign)])
def test_every_key_that_wrangler_has_is_followed_harmless_or_refused(lock: str, tmp_path: Path) -> None:
    schema = json.loads((fetch(lock) / "node_modules/wrangler/config-schema.json").read_text(encoding="utf-8"))
    strangers = []
    for key in set(schema["definitions"]["RawConfig"]["properties"]) - {"env"}:
        (tmp_path / "wrangler.json").write_text(json.dumps({key: {"any": "thing"}}), encoding="utf-8")
        try:
            read_file(tmp_path / "wrangler.json")
        except InvalidSettingError as error:
            if "no setting that there is" in str(error) and error.facts["name"] == key:
                strangers.append(key)
    assert strangers == []
