"""The OpenAPI document is complete, and is what the server serves. That the committed one is current is tested in
tests/house, that it is true in test_schema.py."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest

from conveyor import Conveyor
from conveyor.audit.trail import Audit
from conveyor.server import rest
from conveyor.server.rest.openapi import make_document
from conveyor.server.rest.streams import Streams
from conveyor.server.tokens import Tokens
from house.pages import openapi_page
from server.rest.steps import ok


@pytest.fixture
def document() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(openapi_page())
    return found


@pytest.mark.anyio
async def test_the_served_document_is_the_committed_one_and_needs_no_token(
    api: httpx2.AsyncClient, document: dict[str, Any]
) -> None:
    assert ok(await api.get("/openapi.json", headers={"authorization": ""})) == document


def test_every_endpoint_is_in_it(document: dict[str, Any]) -> None:
    app = Conveyor("shop", url="memory://")
    tokens = Tokens(app.store)
    endpoints = rest.endpoints(tokens, Audit(app.store), Streams(app, tokens, epoch=""))
    ours = {(each.method.lower(), each.path.replace(":path", "")) for each in endpoints} - {("get", "/openapi.json")}
    assert ours == {(method, path) for path, methods in document["paths"].items() for method in methods}


def test_every_reference_leads_somewhere_and_every_component_is_used(document: dict[str, Any]) -> None:
    found = set(_references(document))
    assert found == {
        f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in document["components"][kind]
    }


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in _references(each)]
    if not isinstance(value, dict):
        return []
    here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return [*here, *(found for each in value.values() for found in _references(each))]


def test_requests_forbid_unknown_fields_and_every_operation_says_what_it_is(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    names: set[str] = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"] and operation["operationId"] not in names
            names.add(operation["operationId"])
            if "requestBody" in operation:
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                assert schemas[reference.rpartition("/")[2]]["additionalProperties"] is False


def test_the_same_table_gives_the_same_document() -> None:
    app = Conveyor("shop", url="memory://")
    tokens = Tokens(app.store)
    made = [make_document(rest.operations(tokens, Audit(app.store), Streams(app, tokens, epoch=""))) for _ in range(2)]
    assert msgspec.json.encode(made[0]) == msgspec.json.encode(made[1])
