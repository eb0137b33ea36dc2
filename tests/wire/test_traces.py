"""What two releases of wrangler were recorded to send, sent again: each answer must have the status, the codes and the
fields that those commands need. The newest release is held to so where no Node runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from conveyor import Conveyor
from kit.served import Client, serving

pytestmark = pytest.mark.anyio

HERE: Final = Path(__file__).parent
ID: Final = re.compile(r"[0-9a-f]{32}")
OF_WORKERS: Final = {"producers", "producers_total_count"}
"""These Workers are not deployed here: uploads were left out of the recording."""
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Session:
    """One release's commands in their order: ids that it was given stand for ours."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ours: dict[str, str] = {}

    async def replay(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        query = self._translate(request.get("query", ""))
        path = self._translate(request["path"]) + (f"?{query}" if query else "")
        content, headers = self._content(request)
        got = await self._client.ask(request["method"], path, content=content, headers=headers)
        assert got.status_code == answer["status"], got.text
        wanted = answer["body"]
        if "<raw>" in wanted:
            assert got.text == wanted["<raw>"]
            return
        body = got.json()
        assert body["success"] is wanted["success"]
        codes = [each["code"] for each in body["errors"]]
        assert codes == [each["code"] for each in wanted.get("errors", [])]
        if wanted.get("result") is not None:
            self._compare(wanted["result"], body["result"])

    def _content(self, request: dict[str, Any]) -> tuple[bytes | None, dict[str, str]]:
        kind = request.get("content_type", "")
        headers = {"content-type": kind} if kind else {}
        if "json" in request:
            return self._translate(msgspec.json.encode(request["json"]).decode()).encode(), headers
        if "text" in request:
            return request["text"].encode(), headers
        if "multipart" in request:
            boundary = kind.partition("boundary=")[2]
            return b"".join(_form(boundary, request["multipart"])), headers
        return None, headers

    def _translate(self, text: str) -> str:
        return ID.sub(lambda found: self._ours.get(found[0], found[0]), text)

    def _compare(self, wanted: Any, got: Any) -> None:
        """All that was there is here, with the same values; ids are learnt, and moments are moments."""
        if isinstance(wanted, dict):
            for key, value in wanted.items():
                assert key in got, f"`{key}` is missing in {got}"
                if key not in OF_WORKERS:
                    self._compare(value, got[key])
        elif isinstance(wanted, list):
            assert len(wanted) == len(got), (wanted, got)
            for one, other in zip(wanted, got, strict=True):
                self._compare(one, other)
        elif isinstance(wanted, str) and ID.fullmatch(wanted):
            assert ID.fullmatch(got), got
            assert self._ours.setdefault(wanted, got) == got
        elif isinstance(wanted, str) and MOMENT.fullmatch(wanted):
            assert MOMENT.fullmatch(got), got
        else:
            assert got == wanted


def _form(boundary: str, parts: list[dict[str, Any]]) -> Iterator[bytes]:
    for part in parts:
        content = part["text"].encode() if "text" in part else msgspec.json.encode(part["json"])
        yield f'--{boundary}\r\nContent-Disposition: form-data; name="{part["name"]}"\r\n\r\n'.encode()
        yield content + b"\r\n"
    yield f"--{boundary}--\r\n".encode()


@pytest.mark.parametrize("release", ["4.86.0", "4.164.0"])
async def test_every_recorded_command_gets_what_it_needs(release: str) -> None:
    lines = (HERE / f"wrangler-{release}.jsonl").read_bytes().splitlines()
    assert len(lines) > 50
    async with serving(Conveyor("shop", url="memory://")) as client:
        session = Session(client)
        for line in lines:
            recorded = msgspec.json.decode(line)
            for step in recorded["steps"]:
                try:
                    await session.replay(step["request"], step["answer"])
                except AssertionError as error:
                    raise AssertionError(f"{recorded['command']}: {step['request']}: {error}") from error
