"""Whatever is asked of whichever endpoint of Cloudflare's wire, in whatever shape: it is refused or answered, and never
a fault of ours."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

import httpx2
import pytest

from conveyor import Conveyor
from conveyor.server import cloudflare
from kit.postgres import the_server
from kit.served import serving

pytestmark = pytest.mark.anyio

ACCOUNT: Final = "/client/v4/accounts/0123456789abcdef0123456789abcdef"
NAMES: Final = (
    "shop",
    "%00",
    "%2e%2e%2f%2e%2e",
    "%F0%9F%98%80",
    "a" * 1_500,
    "'%20OR%201=1--",
    "%0d%0aX:%20y",
    "f97a6e55-6380-4a75-9703-73c6616ae0c2",
)
QUERIES: Final = (
    "",
    "?cursor=%00",
    "?prefix=%00",
    "?page=-1",
    "?per_page=0",
    "?name=%00&name=%F0%9F%98%80",
    "?limit=99999999999999999999",
    "?x=%ff",
)
BODIES: Final = (
    b"", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"name":"\\ud800"}', b'{"name":null}', b'{"sql":"SELECT ?","params":[1e400]}',
    b'[{"cron":"\\u0000"}]', b'{"body":{"a":NaN}}', b'{"queue_name":[1]}', b'{"messages":[{}]}', b'{"acks":[{"lease_id":"\\u0000"}]}', b'["\\u0000"]',
    b'{"secrets":{"\\u0000":{"text":"x"}}}', b'{"keys":["\\u0000"]}', b'[{"key":"\\u0000","value":"x"}]', b'{"title":"\\u0000"}',
)  # fmt: skip
TYPES: Final = ("application/json", "multipart/form-data; boundary=x", "text/plain", "multipart/form-data", "\x7f/\x7f")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgresql", marks=pytest.mark.campaign)])
async def test_no_request_is_a_fault_of_ours(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_FILES", str(tmp_path / "files"))
    url = f"sqlite:///{tmp_path}/store.db" if store == "sqlite" else the_server().url()
    names, queries, types = (itertools.cycle(each) for each in (NAMES, QUERIES, TYPES))
    bodies = itertools.cycle(BODIES)
    faults: list[str] = []
    async with serving(Conveyor("shop", url=url)) as client:
        for endpoint in cloudflare.endpoints():
            for _ in range(len(BODIES) if endpoint.method != "GET" else len(NAMES)):
                path = "/".join(next(names) if each.startswith("{") else each for each in endpoint.path.split("/"))
                asked = ACCOUNT + path + next(queries)
                kind = next(types)
                try:
                    answer = await client.ask(
                        endpoint.method, asked, content=next(bodies), headers={"content-type": kind}
                    )
                except httpx2.InvalidURL:
                    continue
                if answer.status_code >= 500:
                    faults.append(f"{answer.status_code} {endpoint.method} {asked[:200]} {kind}")
                next(itertools.islice(names, 1, None))  # or each endpoint would meet the same ones
    assert faults == []
