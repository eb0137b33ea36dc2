"""Workers, crons, secrets, D1 and R2 on Cloudflare's wire, request by request."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from conveyor import Conveyor, CronRun, Message
from conveyor.server.asgi import make_asgi
from conveyor.wrangler import read_file

pytestmark = pytest.mark.anyio

TOKEN = "cvy_" + "t" * 40
CANARY = "canary-7f3a-never-shown"
Ask: TypeAlias = Callable[..., Awaitable[Any]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Conveyor]:
    monkeypatch.chdir(tmp_path)
    for name in ("CONVEYOR_SECRETS_KEY", "CONVEYOR_FILES", "CONVEYOR_WRANGLER"):
        monkeypatch.delenv(name, raising=False)
    app = Conveyor("movies", url=f"sqlite:///{tmp_path}/store.db")

    @app.consumer("jobs")
    async def handle(message: Message[dict[str, Any]]) -> None: ...

    @app.cron("30 16 * * *")
    async def daily(run: CronRun) -> None: ...

    async with app:
        yield app


@pytest.fixture
async def client(app: Conveyor) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=make_asgi(app, token=TOKEN))
    base = "http://127.0.0.1/client/v4/accounts/0123456789abcdef0123456789abcdef"
    async with httpx2.AsyncClient(
        transport=transport, base_url=base, headers={"authorization": f"Bearer {TOKEN}"}
    ) as client:
        yield client


@pytest.fixture
def ask(client: httpx2.AsyncClient) -> Ask:
    """Ask, and answer with the result; or with status and code of a refusal."""

    async def ask(method: str, path: str, **more: Any) -> Any:
        answer = await client.request(method, path, **more)
        said = answer.json()
        if said["success"]:
            assert answer.status_code == 200
            return said["result"]
        return answer.status_code, said["errors"][0]["code"]

    return ask


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Workers


async def test_the_served_app_is_a_worker_and_strangers_have_the_codes_that_wrangler_knows(ask: Ask) -> None:
    service = await ask("GET", "/workers/services/movies")
    assert service["default_environment"]["script"]["last_deployed_from"] == "wrangler"
    assert await ask("GET", "/workers/services/nobody") == (404, 10090)
    assert await ask("GET", "/workers/scripts/nobody/settings") == (404, 10007)
    assert await ask("GET", "/workers/scripts/nobody/deployments") == (404, 10007)
    assert [each["id"] for each in await ask("GET", "/workers/scripts")] == ["movies"]
    assert (await ask("GET", "/workers/workers/movies"))["subdomain"] == {"enabled": False, "previews_enabled": False}


async def test_a_deployment_names_a_version_that_can_be_asked_for(ask: Ask) -> None:
    [deployment] = (await ask("GET", "/workers/scripts/movies/deployments"))["deployments"]
    version = deployment["versions"][0]["version_id"]
    assert (await ask("GET", f"/workers/scripts/movies/versions/{version}"))["id"] == version
    assert [each["id"] for each in (await ask("GET", "/workers/scripts/movies/versions"))["items"]] == [version]
    assert await ask("GET", "/workers/scripts/movies/versions/00000000-0000-4000-8000-000000000000") == (404, 100146)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/workers/scripts/movies?excludeScript=true"),
        ("PUT", "/workers/scripts/movies"),
        ("POST", "/workers/scripts/movies/versions"),
    ],
)
async def test_code_is_refused_with_the_command_that_runs_an_app(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    parts = {"metadata": (None, b'{"main_module": "entry.py", "bindings": []}'), "entry.py": ("entry.py", b"import os")}
    answer = await client.request(method, path, files=parts)
    assert answer.status_code == 400
    assert "conveyor serve MODULE:APP" in answer.json()["errors"][0]["message"]


async def test_a_draft_is_made_for_a_secret_and_goes_with_it(ask: Ask) -> None:
    parts = {
        "metadata": (None, b'{"main_module": "fresh", "bindings": [], "logpush": false}'),
        "fresh": ("fresh", b"export default {}"),
    }
    assert await ask(
        "PUT", "/workers/scripts/fresh/secrets", json={"name": "A", "text": "1", "type": "secret_text"}
    ) == (404, 10007)
    assert re.fullmatch("[0-9a-f]{32}", (await ask("PUT", "/workers/scripts/fresh", files=parts))["deployment_id"])
    await ask("PUT", "/workers/scripts/fresh/secrets", json={"name": "A", "text": "1", "type": "secret_text"})
    assert (await ask("GET", "/workers/scripts/fresh/deployments")) == {"deployments": [], "items": []}
    assert await ask("DELETE", "/workers/services/fresh?force=true") is None
    assert await ask("GET", "/workers/services/fresh") == (404, 10090)
    await ask("PUT", "/workers/scripts/fresh", files=parts)
    assert await ask("GET", "/workers/scripts/fresh/secrets") == []


async def test_the_served_app_cannot_be_deleted_from_under_itself(ask: Ask) -> None:
    assert await ask("DELETE", "/workers/services/movies?force=true") == (409, 10064)


async def test_another_apps_consumers_go_with_it_by_force_alone(ask: Ask, app: Conveyor) -> None:
    info = await app.info("jobs")
    assert info.consumer is not None
    await app.store.put_consumer("jobs", type(info.consumer)(script="other"))
    assert await ask("DELETE", "/workers/scripts/other") == (409, 10064)
    assert await ask("DELETE", "/workers/scripts/other?force=true") is None
    assert (await app.info("jobs")).consumer is None


@pytest.mark.parametrize(
    "body", [b"", b"{", b"--x", b'--x\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n\xff\r\n--x--']
)
async def test_a_broken_upload_is_a_bad_request(client: httpx2.AsyncClient, body: bytes) -> None:
    for kind in (
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "text/plain",
        'multipart/form-data; boundary="',
    ):
        answer = await client.request("PUT", "/workers/scripts/movies", content=body, headers={"content-type": kind})
        assert answer.status_code == 400, answer.text


async def test_tail_says_what_there_is_instead(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/workers/scripts/movies/tails", json={"filters": []})
    assert answer.status_code == 400
    assert "conveyor tail" in answer.json()["errors"][0]["message"]


# Crons


async def test_schedules_are_the_apps_own_until_somebody_writes_others(ask: Ask) -> None:
    assert [each["cron"] for each in (await ask("GET", "/workers/scripts/movies/schedules"))["schedules"]] == [
        "30 16 * * *"
    ]
    crons = [{"cron": "30 16 * * *"}, {"cron": "59 23 LW * *"}]
    written = await ask("PUT", "/workers/scripts/movies/schedules", json=crons)
    assert [(each["cron"], each["schedules"]) for each in written["schedules"]] == [
        ("30 16 * * *", ["daily"]),
        ("59 23 LW * *", []),
    ]
    assert written["conveyor"]["crons_that_nothing_runs"] == ["59 23 LW * *"]
    assert await ask("GET", "/workers/scripts/movies/schedules") == written
    assert (await ask("PUT", "/workers/scripts/movies/schedules", json=[]))["schedules"] == []


STRICT = (
    "*,* * * * *", " * * * * *", "* * * * * ", "0 0 ? * *", "0 0 l * *", "0 0 15w * *", "0 0 1,L * *", "0 0 * * fril",
    "0 0 * * 2,6L", "0 0 * * 2#1,3", "*/60 * * * *", "0 */24 * * *", "0 0 1-9/31 * *", "0 0 * */12 *", "0 0 * * */7",
)  # fmt: skip
"""What Cloudflare does not take, though an app may write some of it."""


@pytest.mark.parametrize("cron", ["0 0 * * 0", "nonsense", "", "* * * * * *", "@daily", "9" * 1_000, "\x00", *STRICT])
async def test_a_bad_cron_changes_nothing(ask: Ask, cron: str) -> None:
    before = await ask("PUT", "/workers/scripts/movies/schedules", json=[{"cron": "*/5 * * * *"}])
    answer = await ask("PUT", "/workers/scripts/movies/schedules", json=[{"cron": "1 1 * * *"}, {"cron": cron}])
    assert answer == (400, 10100)
    assert await ask("GET", "/workers/scripts/movies/schedules") == before


async def test_what_cloudflare_s_grammar_has_is_taken(ask: Ask) -> None:
    crons = [
        "*/5,*/3 * * * *", "0\t0  * * *", "50-10 * * * *", "3/20 * * * *", "*/59 */23 */30 */11 */6", "59 23 LW * *",
        "0 0 L-3 * *", "0 0 L-3W * *", "0 0 15W * *", "0 0 L jul,Aug *", "0 0 * * L", "0 0 * * 6L", "0 0 * * friL",
        "0 0 * * mon#5", "0 0 * * FRI-SUN", "0 0 1,15 * MON-FRI,7",
    ]  # fmt: skip
    written = await ask("PUT", "/workers/scripts/movies/schedules", json=[{"cron": each} for each in crons])
    assert [each["cron"] for each in written["schedules"]] == crons


@pytest.mark.parametrize("body", [{}, {"crons": []}, ["* * * * *"], [{"corn": "x"}], None, 1])
async def test_a_body_of_another_shape_is_10026(ask: Ask, body: object) -> None:
    assert await ask("PUT", "/workers/scripts/movies/schedules", json=body) == (400, 10026)


# Secrets


async def test_a_secret_is_read_by_the_app_and_shown_to_nobody(
    ask: Ask, app: Conveyor, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await ask("PUT", "/workers/scripts/movies/secrets", json={"name": "KEY", "text": CANARY, "type": "secret_text"})
    await app.secrets.refresh()
    assert app.secrets["KEY"] == CANARY
    assert list(app.secrets) == ["KEY"]
    said = [
        (await client.get(f"/workers/scripts/movies/{path}")).text for path in ("secrets", "secrets/KEY", "settings")
    ]
    assert '"KEY"' in said[0]
    assert not any(CANARY in each for each in (*said, repr(app.secrets), str(vars(app.secrets))))
    assert not any(CANARY.encode() in each.read_bytes() for each in files(tmp_path))


async def test_the_name_in_the_apps_wrangler_file_means_the_app(ask: Ask, app: Conveyor, tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text('name = "movie-api"')
    assert await ask("GET", "/workers/scripts/movie-api/secrets") == (404, 10007)
    app.worker = read_file(tmp_path / "w.toml")
    await ask("PUT", "/workers/scripts/movie-api/secrets", json={"name": "KEY", "text": "1", "type": "secret_text"})
    await app.secrets.refresh()
    assert dict(app.secrets) == {"KEY": "1"}


async def test_secrets_in_bulk_are_written_and_removed(ask: Ask) -> None:
    """The way of wrangler 4.164."""
    path = "/workers/scripts/movies/secrets-bulk"
    both = {name: {"name": name, "text": name, "type": "secret_text"} for name in ("A", "B")}
    await ask("PATCH", path, json={"secrets": both})
    assert await ask("GET", "/workers/scripts/movies/secrets") == [
        {"name": name, "type": "secret_text"} for name in ("A", "B")
    ]
    await ask("PATCH", path, json={"secrets": {"A": None}})
    assert [each["name"] for each in await ask("GET", "/workers/scripts/movies/secrets")] == ["B"]


async def test_secrets_in_bulk_by_settings(ask: Ask, app: Conveyor) -> None:
    """The way of wrangler 4.86: what it names without a text stays."""
    await ask("PUT", "/workers/scripts/movies/secrets", json={"name": "OLD", "text": "1", "type": "secret_text"})
    [old] = (await ask("GET", "/workers/scripts/movies/settings"))["bindings"]
    settings = (
        f'{{"bindings":[{{"type":"{old["type"]}","name":"OLD"}},{{"type":"secret_text","name":"NEW","text":"2"}}]}}'
    )
    await ask("PATCH", "/workers/scripts/movies/settings", files={"settings": (None, settings.encode())})
    await app.secrets.refresh()
    assert dict(app.secrets) == {"NEW": "2", "OLD": "1"}
    await ask("PATCH", "/workers/scripts/movies/settings", files={"settings": (None, b'{"bindings":[]}')})
    assert await ask("GET", "/workers/scripts/movies/secrets") == []


async def test_one_bad_secret_keeps_the_others_out(ask: Ask) -> None:
    bad = {"A": {"name": "A", "text": "1"}, "B": {"name": "B", "text": "x" * 5_121}}
    assert (await ask("PATCH", "/workers/scripts/movies/secrets-bulk", json={"secrets": bad}))[0] == 400
    assert await ask("GET", "/workers/scripts/movies/secrets") == []


async def test_a_secret_of_any_name_can_be_deleted_once(ask: Ask) -> None:
    await ask("PUT", "/workers/scripts/movies/secrets", json={"name": "a/b ü", "text": "1", "type": "secret_text"})
    assert await ask("DELETE", "/workers/scripts/movies/secrets/a%2Fb%20%C3%BC?url_encoded=true") is None
    assert await ask("DELETE", "/workers/scripts/movies/secrets/a%2Fb%20%C3%BC?url_encoded=true") == (404, 10056)


async def test_a_refused_secret_is_not_repeated(client: httpx2.AsyncClient) -> None:
    for body in (
        {"name": "A", "text": [CANARY]},
        {"name": "A", "text": CANARY * 300},
        {"name": "A", "text": CANARY, "typo": 1},
    ):
        answer = await client.put("/workers/scripts/movies/secrets", json=body)
        assert answer.status_code == 400
        assert CANARY not in answer.text


async def test_a_binding_finds_the_namespace_of_its_id(ask: Ask, app: Conveyor, tmp_path: Path) -> None:
    made = await ask("POST", "/storage/kv/namespaces", json={"title": "movie cache"})
    (tmp_path / "wrangler.toml").write_text(f'[[kv_namespaces]]\nbinding = "CACHE"\nid = "{made["id"]}"')
    other = Conveyor("other", url=app.url)
    cache = other.kv("CACHE")
    async with other:
        await cache.put("a", "1")
    assert (await app.store.kv_get("movie cache", "a")) is not None


# D1


async def test_a_database_is_made_asked_and_deleted(ask: Ask, tmp_path: Path) -> None:
    made = await ask("POST", "/d1/database", json={"name": "db1"})
    number = made["uuid"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", number)
    sql = "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES ('x'), ('y'); SELECT * FROM t -- all"
    made, written, read = await ask("POST", f"/d1/database/{number}/query", json={"sql": sql})
    assert (made["results"], written["results"], read["results"]) == ([], [], [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    assert (written["meta"]["changes"], written["meta"]["last_row_id"], read["meta"]["rows_read"]) == (2, 2, 2)
    assert read["meta"]["size_after"] >= 8_192
    info = await ask("GET", "/d1/database/db1?fields=uuid,name")
    assert info == {"uuid": number, "name": "db1"}
    assert (await ask("GET", f"/d1/database/{number}"))["num_tables"] == 1
    assert [each["name"] for each in await ask("GET", "/d1/database?page=1&per_page=10")] == ["db1"]
    assert await ask("GET", "/d1/database?page=2&per_page=10") == []
    assert await ask("POST", "/d1/database", json={"name": "db1"}) == (409, 7502)
    assert await ask("DELETE", f"/d1/database/{number}") is None
    assert await ask("GET", f"/d1/database/{number}") == (404, 7404)
    assert {each.name for each in files(tmp_path)} == {"store.db", "store.db-wal", "store.db-shm"}


async def test_a_database_that_a_file_names_is_made_when_it_is_asked(ask: Ask, app: Conveyor, tmp_path: Path) -> None:
    number = "f97a6e55-6380-4a75-9703-73c6616ae0c2"
    (tmp_path / "w.toml").write_text(
        f'[[d1_databases]]\nbinding = "DB"\ndatabase_name = "plotburn-db"\ndatabase_id = "{number}"'
    )
    app.worker = read_file(tmp_path / "w.toml")
    assert await ask("GET", "/d1/database") == []
    await ask("POST", f"/d1/database/{number}/query", json={"sql": "CREATE TABLE roasts(movie_id)"})
    for reference in (number, "plotburn-db"):
        [read] = await ask(
            "POST", f"/d1/database/{reference}/query", json={"sql": "SELECT name FROM sqlite_master WHERE type='table'"}
        )
        assert read["results"] == [{"name": "roasts"}]
    assert [each["name"] for each in await ask("GET", "/d1/database")] == ["plotburn-db"]


async def test_parameters_are_bound_and_batches_are_one_transaction(ask: Ask) -> None:
    await ask("POST", "/d1/database", json={"name": "db"})
    batch = [
        {"sql": "CREATE TABLE t(a, b, c, d)"},
        {"sql": "INSERT INTO t VALUES (?, ?, ?, ?)", "params": ["'; DROP TABLE t; --", 1.5, True, [1, 255]]},
        {"sql": "SELECT * FROM t WHERE a = ?1", "params": ["'; DROP TABLE t; --"]},
    ]
    *_, read = await ask("POST", "/d1/database/db/query", json={"batch": batch})
    assert read["results"] == [{"a": "'; DROP TABLE t; --", "b": 1.5, "c": 1, "d": [1, 255]}]
    assert await ask("POST", "/d1/database/db/query", json={"sql": "DELETE FROM t; SELECT nope"}) == (400, 7500)
    [raw] = await ask("POST", "/d1/database/db/raw", json={"sql": "SELECT count(*) AS n, 1 AS n FROM t"})
    assert raw["results"] == {"columns": ["n", "n"], "rows": [[1, 1]]}


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 64, "a b", ".", None, 7])
async def test_a_name_never_becomes_a_path(ask: Ask, name: object, tmp_path: Path) -> None:
    status, _ = await ask("POST", "/d1/database", json={"name": name})
    assert status == 400
    assert not [each for each in files(tmp_path) if each.suffix == ".sqlite"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sql": 1},
        {"sql": "x", "batch": []},
        {"sql": "SELECT 1", "attempts": 0},
        {"sql": "SELECT ?"},
        {"sql": "SELECT ?", "params": [{"a": 1}]},
        {"sql": "SELECT ?", "params": [2**64]},
        {"sql": "SELECT ?", "params": [[999]]},
    ],
)
async def test_a_query_that_does_not_fit_is_a_bad_request(ask: Ask, body: object) -> None:
    await ask("POST", "/d1/database", json={"name": "db"})
    assert (await ask("POST", "/d1/database/db/query", json=body))[0] == 400


# R2


async def test_an_object_goes_in_and_comes_out(ask: Ask, client: httpx2.AsyncClient, app: Conveyor) -> None:
    assert (await ask("POST", "/r2/buckets", json={"name": "bkt"}))["name"] == "bkt"
    assert await ask("POST", "/r2/buckets", json={"name": "bkt"}) == (409, 10004)
    put = await ask(
        "PUT", "/r2/buckets/bkt/objects/dir/f.html", content=b"<b>hi</b>", headers={"content-type": "text/html"}
    )
    assert (put["key"], put["size"], put["etag"]) == ("dir/f.html", "9", "932cd0528734b00f39b0e096899718f9")
    answer = await client.get("/r2/buckets/bkt/objects/dir/f.html")
    assert (answer.content, answer.headers["content-type"], answer.headers["content-length"]) == (
        b"<b>hi</b>",
        "text/html",
        "9",
    )
    assert (answer.headers["content-disposition"], answer.headers["x-content-type-options"]) == (
        "attachment",
        "nosniff",
    )
    found = await app.bucket("bkt").get("dir/f.html")
    assert found is not None
    assert found.body == b"<b>hi</b>"
    assert [each["key"] for each in await ask("GET", "/r2/buckets/bkt/objects?prefix=dir/")] == ["dir/f.html"]
    assert await ask("DELETE", "/r2/buckets/bkt") == (409, 10008)
    assert await ask("DELETE", "/r2/buckets/bkt/objects/dir/f.html") == {"key": "dir/f.html"}
    assert (await client.get("/r2/buckets/bkt/objects/dir/f.html")).status_code == 404
    assert await ask("DELETE", "/r2/buckets/bkt") == {}
    assert await ask("GET", "/r2/buckets/bkt") == (404, 10006)
    assert (await ask("PUT", "/r2/buckets/bkt/objects/x", content=b""))[1] == 10006


async def test_an_upload_goes_to_the_disk_piece_by_piece(client: httpx2.AsyncClient, ask: Ask, app: Conveyor) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(8):
            yield bytes([number]) * 100_000

    await ask("POST", "/r2/buckets", json={"name": "bkt"})
    put = await ask("PUT", "/r2/buckets/bkt/objects/big", content=pieces())
    assert put["size"] == "800000"
    answer = await client.get("/r2/buckets/bkt/objects/big")
    assert answer.content == b"".join([piece async for piece in pieces()])
    assert (
        await client.put("/r2/buckets/bkt/objects/huge", content=b"x", headers={"content-length": "400000000"})
    ).status_code == 413
    assert await app.bucket("bkt").head("huge") is None


async def test_no_key_leaves_its_folder(ask: Ask, tmp_path: Path) -> None:
    await ask("POST", "/r2/buckets", json={"name": "bkt"})
    keys = ["..%2F..%2Fevil", "%2Fetc%2Fpasswd", "a%00b", "..%5C..%5Cevil", "x" * 1_025, "%E2%80%AEtxt.exe", "CON"]
    answers = [await ask("PUT", f"/r2/buckets/bkt/objects/{key}", content=b"x") for key in keys]
    assert [isinstance(each, dict) for each in answers] == [True, True, False, True, False, True, True]
    names = {each.name for each in files(tmp_path)} - {"store.db", "store.db-wal", "store.db-shm"}
    assert len(names) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)


@pytest.mark.parametrize("query", ["cursor=%00", "prefix=%00", "per_page=0", "per_page=x", "cursor=" + "x" * 1_025])
async def test_a_listing_that_cannot_be_is_refused(ask: Ask, query: str) -> None:
    await ask("POST", "/r2/buckets", json={"name": "bkt"})
    assert (await ask("GET", f"/r2/buckets/bkt/objects?{query}"))[0] == 400


@pytest.mark.parametrize("name", ["", "ab", "UP", "../x", "a" * 64, "-ab", None])
async def test_a_bad_bucket_name_is_refused(ask: Ask, name: object) -> None:
    assert (await ask("POST", "/r2/buckets", json={"name": name}))[0] == 400


async def test_who_subscribed_hears_of_buckets(ask: Ask, app: Conveyor) -> None:
    [queue] = [each["queue_id"] for each in await ask("GET", "/queues?name=jobs")]
    wanted = {"name": "s", "enabled": True, "source": {"type": "r2"}, "events": ["bucket.created"]}
    await ask(
        "POST",
        "/event_subscriptions/subscriptions",
        json={**wanted, "destination": {"type": "queues.queue", "queue_id": queue}},
    )
    await ask("POST", "/r2/buckets", json={"name": "bkt"})
    await ask("DELETE", "/r2/buckets/bkt")
    assert [b"cf.r2.bucket.created" in each.body for each in await app.store.peek("jobs", limit=9)] == [True]


async def test_graphql_has_as_much_as_wrangler_needs(client: httpx2.AsyncClient) -> None:
    answer = await client.post("http://127.0.0.1/client/v4/graphql", json={"query": "query getR2"})
    assert answer.json()["data"]["viewer"]["accounts"] == [{}]


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "x" * 100_000, "* * * * * *", "*/0 * * * *", "9" * 5_000])
async def test_hostile_crons_are_refused_at_once(client: httpx2.AsyncClient, cron: str) -> None:
    started = time.process_time()
    answer = await client.put("/workers/scripts/movies/schedules", json=[{"cron": "0 * * * *"}, {"cron": cron}])
    assert time.process_time() - started < 1, "50 ms each, for the parser alone"
    assert answer.status_code == 400
    assert len(answer.content) < 1_000


async def test_a_queue_is_renamed_and_keeps_its_id(ask: Ask) -> None:
    """What wrangler always sends, its present name, is no rename."""
    queue = await ask("POST", "/queues", json={"queue_name": "letters"})
    await ask("POST", "/queues", json={"queue_name": "taken"})
    path = f"/queues/{queue['queue_id']}"
    await ask("POST", f"{path}/consumers", json={"type": "http_pull"})
    await ask("POST", f"{path}/messages", json={"body": 1})
    pulled = await ask("POST", f"{path}/messages/pull", json={})
    said = {"source": {"type": "kv"}, "events": ["namespace.created"], "name": "s"}
    destination = {"type": "queues.queue", "queue_id": queue["queue_id"]}
    made = await ask("POST", "/event_subscriptions/subscriptions", json=said | {"destination": destination})
    for method, name in (("PATCH", "tasks"), ("PUT", "chores"), ("PATCH", "letters"), ("PUT", "letters"), ("PATCH", "tasks")):
        changed = await ask(method, path, json={"queue_name": name, "settings": {"delivery_delay": 9}})
        assert (changed["queue_id"], changed["queue_name"]) == (queue["queue_id"], name)
        assert changed["settings"]["delivery_delay"] == 9
        assert changed["created_on"] == queue["created_on"]
        assert await ask("GET", path) == (await ask("GET", f"/queues?name={name}"))[0] == await ask("GET", f"/queues/{name}")
    for name, refusal in (("taken", (409, 11009)), ("No_Name", (400, 11003)), ("", (400, 11003))):
        assert await ask("PATCH", path, json={"queue_name": name, "settings": {"delivery_delay": 5}}) == refusal
    assert (await ask("GET", path))["settings"]["delivery_delay"] == 9
    assert await ask("GET", "/queues/letters") == (404, 11000)
    acks = [{"lease_id": pulled["messages"][0]["lease_id"]}]
    assert (await ask("POST", f"{path}/messages/ack", json={"acks": acks}))["ackCount"] == 1
    await ask("POST", "/storage/kv/namespaces", json={"title": "heard"})
    [seen] = (await ask("POST", f"{path}/messages/peek", json={}))["messages"]
    assert "namespace.created" in str(seen["body"])
    again = await ask("POST", "/queues", json={"queue_name": "letters"})
    assert again["queue_id"] != queue["queue_id"]
    assert [each["id"] for each in await ask("GET", "/event_subscriptions/subscriptions")] == [made["id"]]


async def test_a_rename_elsewhere_is_found_out_before_a_client_is_refused(ask: Ask, app: Conveyor) -> None:
    queue = await ask("POST", "/queues", json={"queue_name": "letters"})
    path = f"/queues/{queue['queue_id']}"
    await ask("POST", f"{path}/consumers", json={"type": "http_pull"})
    await ask("POST", f"{path}/messages", json={"body": 1})
    await app.store.rename_queue("letters", "mail")
    await ask("POST", f"{path}/messages", json={"body": 2})
    await app.store.rename_queue("mail", "post")
    pulled = await ask("POST", f"{path}/messages/pull", json={})
    assert [each["body"] for each in pulled["messages"]] == ["1", "2"]
    await app.store.rename_queue("post", "letters")
    await ask("POST", f"{path}/messages/batch", json={"messages": [{"body": 3}]})
    await app.store.delete_queue("letters")
    assert await ask("POST", f"{path}/messages", json={"body": 4}) == (404, 10104)
