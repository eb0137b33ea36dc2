"""schemathesis asks the API what its own document allows, and what it forbids: no answer is a fault of the server's, each
is one that the document knows, and what the document forbids is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from conveyor import Conveyor
from conveyor.cron.schedule import CronRun
from conveyor.model.settings import ConsumerSettings, ConsumerType
from conveyor.model.verdict import Action, Settlement
from conveyor.server.asgi import make_asgi
from conveyor.store.records import PULL_OWNER, ClaimRequest
from house.pages import openapi_page
from kit.served import ADMIN

BASE = "http://127.0.0.1:8787/api/v1"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT = msgspec.json.decode(openapi_page())
del DOCUMENT["security"], DOCUMENT["components"]["securitySchemes"]  # who may is another test's; here an admin asks
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: dict[str, Any] = {
    each.label: each
    for each in (found.ok() for found in SCHEMA.get_all_operations())  # type: ignore[union-attr]  # a fault raises here
    if not each.label.startswith("GET /events")  # which would not end
}
FEW, MANY = 4, 200


class Api:
    """A server with one of each thing, asked from outside its event loop."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self.app = Conveyor("shop", url=f"sqlite:///{folder}/store.db")
        self.app.declare_queue("jobs")

        @self.app.cron("30 16 * * *", name="daily")
        async def daily(run: CronRun) -> None: ...

        self.there: dict[str, str] = {}
        self._runner.run(self._open())

    async def _open(self) -> None:
        asgi = make_asgi(self.app, token=ADMIN)
        self._life = asgi.router.lifespan_context(asgi)
        await self._life.__aenter__()
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(asgi, raise_app_exceptions=False),
            headers={"authorization": f"Bearer {ADMIN}"},
        )
        store = self.app.store
        await store.put_consumer("jobs", ConsumerSettings(type=ConsumerType.HTTP_PULL, dead_letter_queue="dead"))
        sent = await self.app.queue("jobs").send(1)
        [lease] = (await store.claim(ClaimRequest(queue="jobs", owner=PULL_OWNER, limit=1, lease_ms=600_000))).leases
        await store.settle_pulled([Settlement(lease.seq, lease.claim, Action.REJECT, reason="bad")])
        self.there = {"queue": "jobs", "message": sent.id, "schedule": "daily", "namespace": "cache", "key": "k"}

    def ask(self, case: Any) -> httpx2.Response:
        asked = case.as_transport_kwargs(base_url=BASE)
        given: dict[str, Any] = {"params": asked.get("params"), "headers": _plain(asked.get("headers") or {})}
        if asked.get("data") is not None:
            given["content"] = _bytes(asked["data"])
        elif "json" in asked:
            given["json"] = asked["json"]
        request = self._client.build_request(asked["method"], asked["url"], **given)
        return self._runner.run(self._client.send(request))

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.run(self._life.__aexit__(None, None, None))
        self._runner.close()


def _plain(headers: Any) -> dict[bytes, bytes]:
    return {
        name.encode("utf-8", "replace"): str(value).encode("utf-8", "replace")
        for name, value in headers.items()
        if name.lower() != "host"
    }


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode("utf-8", "replace")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    found = Api(tmp_path_factory.mktemp("api"))
    yield found
    found.close()


def search(api: Api, label: str, mode: GenerationMode, examples: int, *, derandomize: bool) -> None:
    """Ask so many times, half of them for what is there."""
    operation = OPERATIONS[label]
    names = {each.name for each in operation.path_parameters}
    fixed = {name: value for name, value in api.there.items() if name in names}
    if fixed.get("queue") and label.split()[1].startswith("/dead-letters"):
        fixed["queue"] = "dead"
    anything = operation.as_strategy(generation_mode=mode)
    strategy = anything
    if fixed.keys() == names and names and mode is GenerationMode.POSITIVE:
        strategy = st.one_of(anything, operation.as_strategy(generation_mode=mode, path_parameters=fixed))
    checks = [*CHECKS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else CHECKS

    @settings(
        max_examples=examples, derandomize=derandomize, deadline=None, database=None,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large], phases=[Phase.generate],
    )  # fmt: skip
    @given(case=strategy)
    def ask(case: Any) -> None:
        case.validate_response(api.ask(case), checks=checks)

    ask()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation_is_as_documented(api: Api, label: str, mode: GenerationMode) -> None:
    if mode is GenerationMode.NEGATIVE and not _can_be_wrong(label):
        pytest.skip("nothing is asked, so nothing can be wrong")
    search(api, label, mode, FEW, derandomize=True)


@pytest.mark.campaign
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation_is_as_documented_whatever_is_asked(api: Api, label: str, mode: GenerationMode) -> None:
    if mode is GenerationMode.NEGATIVE and not _can_be_wrong(label):
        pytest.skip("nothing is asked, so nothing can be wrong")
    search(api, label, mode, MANY, derandomize=False)


def _can_be_wrong(label: str) -> bool:
    operation = OPERATIONS[label]
    return bool(list(operation.iter_parameters()) or operation.body)
