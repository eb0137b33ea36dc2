"""`conveyor serve` as a process: what it refuses to open, what it shows once, and that no secret is in what it leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor.server.tokens import Tokens
from kit.served import bytes_in
from kit.shop import Shop

pytestmark = pytest.mark.anyio

TOKEN = "canary-token-of-the-environment-0123456789"  # noqa: S105 it is to be looked for
PEPPER = "canary-pepper-of-the-environment-0123456789"
PAYLOAD = "canary-payload-555-0100"
APP = """
@app.consumer("jobs", max_retries=0)
async def handle(message: Message[dict]) -> None:
    secret = message.body["phone"]
    raise ValueError("no luck")
"""


async def url_of(shop: Shop) -> str:
    await shop.until(lambda: "serving http" in shop.log())
    found = re.search(r"serving (http://\S+)", shop.log())
    assert found is not None
    return found[1]


async def end(shop: Shop, tree: subprocess.Popen[bytes]) -> None:
    tree.send_signal(signal.SIGTERM)
    await shop.until(lambda: tree.poll() is not None)


def arguments_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def refused(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "shop.py").write_text("from conveyor import Conveyor\napp = Conveyor('shop')\n")
    given = {name: value for name, value in os.environ.items() if name not in ("CONVEYOR_TOKEN", "CONVEYOR_HOST")}
    command = [sys.executable, "-m", "conveyor", "serve", "shop:app", "--port", "0", "--url", f"sqlite:///{folder}/s.db", *options]
    return subprocess.run(command, cwd=folder, env=given | environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("options", "environment", "word"),
    [
        (["--host", "0.0.0.0"], {}, "no token to ask for"),
        (["--host", "::"], {}, "no token to ask for"),
        (["--host", "0.0.0.0"], {"CONVEYOR_TOKEN": TOKEN}, "in the clear"),
        (["--host", "0.0.0.0", "--plain-http"], {}, "no token to ask for"),
        ([], {"CONVEYOR_TOKEN": "canary-short"}, "32 characters"),
        ([], {"CONVEYOR_HOST": "0.0.0.0"}, "no token to ask for"),
    ],
)
def test_an_open_door_is_refused(tmp_path: Path, options: list[str], environment: dict[str, str], word: str) -> None:
    done = refused(tmp_path, *options, **environment)
    assert done.returncode == 1
    assert word in done.stderr and "Traceback" not in done.stderr and "canary" not in done.stderr


async def test_the_first_token_is_shown_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVEYOR_TOKEN", raising=False)
    shop.write(APP)
    tree = shop.start("--port", "0", verb="serve")
    url = await url_of(shop)
    await shop.until(lambda: "cvy_" in shop.log())
    [secret] = re.findall(r"cvy_[0-9a-f]{88}", shop.log())
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        assert (await client.get("/api/v1/queues", headers={"authorization": f"Bearer {secret}"})).status_code == 200
        assert (await client.get("/api/v1/queues")).status_code == 401
    await end(shop, tree)
    again = shop.start("--port", "0", verb="serve")
    await shop.until(lambda: shop.log().count("serving http") == 2)
    await end(shop, again)
    assert shop.log().count("cvy_") == 1
    assert [each.name for each in await Tokens(shop.store).list()] == ["first"]


async def test_no_secret_is_in_what_a_server_leaves(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_TOKEN", TOKEN)
    monkeypatch.setenv("CONVEYOR_PEPPER", PEPPER)
    shop.write(APP)
    tree = shop.start("--port", "0", verb="serve")
    url = await url_of(shop)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        made = (await client.post("/api/v1/tokens", headers=headers, json={"name": "t", "rights": ["send"]})).json()
        secret: str = made["token"]
        own = {"authorization": f"Bearer {secret}"}
        body: dict[str, Any] = {"body": {"phone": PAYLOAD}}
        assert (await client.post("/api/v1/queues/jobs/messages", headers=own, json=body)).status_code < 300
        for path in ("/api/v1/queues", "/api/v1/nothing", "/api/v1/tokens"):
            await client.get(path, headers=own)
            await client.get(path, headers={"authorization": f"Bearer {secret[:-1]}"})
        await client.post("/api/v1/queues/jobs/messages", headers=own, content=PAYLOAD.encode() + b"{\r\n\x1b[2J\0")
        listed = await client.get("/api/v1/tokens", headers=headers)
    await shop.until(lambda: "dead_lettered" in shop.log())
    arguments = b"".join(map(arguments_of, [tree.pid, *shop.workers(tree)]))
    await end(shop, tree)
    left = bytes_in(shop.folder)
    for canary in (TOKEN, PEPPER, secret, secret[20:84]):
        for place in (shop.log().encode(), left, arguments, listed.content):
            assert canary.encode() not in place, canary
    assert PAYLOAD.encode() in left and PAYLOAD not in shop.log(), "the store has it, and nobody else"
    assert all(line.startswith(("{", "conveyor:")) for line in shop.log().splitlines()), "events are lines"
