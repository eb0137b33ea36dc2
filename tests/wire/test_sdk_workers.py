"""Cloudflare's own Python SDK drives Workers' crons and secrets, D1 and R2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cloudflare
import pytest
from cloudflare import Cloudflare

from kit.wrangler import ACCOUNT, Server

APP = "wire"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Cloudflare]:
    with Cloudflare(base_url=f"{server.url}/client/v4", api_token=server.token) as client:
        yield client


def code_of(error: cloudflare.APIStatusError) -> Any:
    return error.errors[0].code


def test_crons(client: Cloudflare) -> None:
    schedules = client.workers.scripts.schedules
    written = schedules.update(APP, account_id=ACCOUNT, body=[{"cron": "*/5 * * * *"}, {"cron": "59 23 LW * *"}])
    assert written is not None
    found = schedules.get(APP, account_id=ACCOUNT)
    assert found is not None
    assert [each.cron for each in found.schedules] == ["*/5 * * * *", "59 23 LW * *"]
    assert found.schedules[0].created_on
    with pytest.raises(cloudflare.BadRequestError) as bad:
        schedules.update(APP, account_id=ACCOUNT, body=[{"cron": "0 0 * * 0"}])
    assert code_of(bad.value) == 10100
    again = schedules.get(APP, account_id=ACCOUNT)
    assert again is not None
    assert again.schedules == found.schedules
    with pytest.raises(cloudflare.NotFoundError) as missing:
        schedules.get("nobody", account_id=ACCOUNT)
    assert code_of(missing.value) == 10007


def test_secrets(client: Cloudflare) -> None:
    secrets = client.workers.scripts.secrets
    put = secrets.update(APP, account_id=ACCOUNT, name="KEY", text="hidden", type="secret_text")
    assert put is not None
    assert put.name == "KEY"
    assert [each.name for each in secrets.list(APP, account_id=ACCOUNT)] == ["KEY"]
    shown = secrets.get("KEY", account_id=ACCOUNT, script_name=APP)
    assert shown is not None
    assert "hidden" not in repr(shown)
    secrets.delete("KEY", account_id=ACCOUNT, script_name=APP)
    with pytest.raises(cloudflare.NotFoundError) as missing:
        secrets.get("KEY", account_id=ACCOUNT, script_name=APP)
    assert code_of(missing.value) == 10056


def test_d1(client: Cloudflare) -> None:
    made = client.d1.database.create(account_id=ACCOUNT, name="sdk-db")
    assert made is not None
    assert made.uuid is not None
    assert [each.name for each in client.d1.database.list(account_id=ACCOUNT)] == ["sdk-db"]
    [*_, read] = client.d1.database.query(
        made.uuid, account_id=ACCOUNT, sql="CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 'x'); SELECT * FROM t"
    )
    assert read.results == [{"a": 1, "b": "x"}]
    assert read.meta is not None
    assert read.meta.rows_read == 1
    [bound] = client.d1.database.query(made.uuid, account_id=ACCOUNT, sql="SELECT ? AS a", params=["'; --"])
    assert bound.results == [{"a": "'; --"}]
    [raw] = client.d1.database.raw(made.uuid, account_id=ACCOUNT, sql="SELECT * FROM t")
    assert raw.results is not None
    assert (raw.results.columns, raw.results.rows) == (["a", "b"], [[1, "x"]])
    with pytest.raises(cloudflare.BadRequestError) as bad:
        client.d1.database.query(made.uuid, account_id=ACCOUNT, sql="SELECT nope")
    assert code_of(bad.value) == 7500
    found = client.d1.database.get(made.uuid, account_id=ACCOUNT)
    assert found is not None
    assert found.num_tables == 1
    client.d1.database.delete(made.uuid, account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError) as missing:
        client.d1.database.get(made.uuid, account_id=ACCOUNT)
    assert code_of(missing.value) == 7404


def test_r2(client: Cloudflare) -> None:
    made = client.r2.buckets.create(account_id=ACCOUNT, name="sdk-bucket")
    assert made is not None
    assert made.name == "sdk-bucket"
    listed = client.r2.buckets.list(account_id=ACCOUNT)
    assert listed is not None
    assert [each.name for each in listed.buckets or []] == ["sdk-bucket"]
    with pytest.raises(cloudflare.ConflictError) as taken:
        client.r2.buckets.create(account_id=ACCOUNT, name="sdk-bucket")
    assert code_of(taken.value) == 10004
    assert taken.value.response.headers["x-should-retry"] == "false"
    client.r2.buckets.delete("sdk-bucket", account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError) as missing:
        client.r2.buckets.get("sdk-bucket", account_id=ACCOUNT)
    assert code_of(missing.value) == 10006


def test_workers(client: Cloudflare) -> None:
    assert APP in [each.id for each in client.workers.scripts.list(account_id=ACCOUNT)]
    deployment: Any  # the SDK's own type is that of another answer
    [deployment] = client.workers.scripts.deployments.list(APP, account_id=ACCOUNT)
    [version] = client.workers.scripts.versions.list(APP, account_id=ACCOUNT)
    assert [each["version_id"] for each in deployment.versions] == [version.id]
