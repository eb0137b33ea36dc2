"""The OpenAPI 3.1 document, made of the operations' table and of the very types that read requests and write
answers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rest.operation import Operation
from conveyor.server.rest.shapes import Told

PATH: Final = "/openapi.json"
_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"\{(\w+)(?::path)?\}")
_NAMES: Final[Mapping[str, dict[str, Any]]] = {
    "queue": {"type": "string", "minLength": 1, "maxLength": 63},
    "message": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "job": {"type": "string", "minLength": 32, "maxLength": 32, "pattern": "^[0-9a-f]{32}$"},
    "group": {"type": "string", "minLength": 32, "maxLength": 32, "pattern": "^[0-9a-f]{32}$"},
    "schedule": {"type": "string", "minLength": 1, "maxLength": 63},
    "alarm": {"type": "string", "minLength": 1, "maxLength": 256},
    "endpoint": {"type": "string", "pattern": "^[0-9a-f]{24}$"},
    "delivery": {"type": "string", "pattern": "^msg_[0-9a-f]{32}$"},
    "namespace": {"type": "string", "minLength": 1, "maxLength": 63},
    "key": {"type": "string", "minLength": 1, "maxLength": 512},
    "token": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "kind": {"type": "string", "enum": ["jobs", "deliveries", "runs", "audit", "dead_letters"]},
    "ticket": {"type": "string", "minLength": 1, "maxLength": 64},
}
_WITH_ETAG: Final = frozenset({"get_queue", "get_letter"})
_TAGS: Final = {
    "queues": "Queues, their consumers and their messages.",
    "dead-letters": "Messages that failed for good: looked at, edited, sent back.",
    "schedules": "Schedules and their runs.",
    "groups": "Groups and chains: jobs and messages that are counted as they end.",
    "alarms": "Durable timers, one per name.",
    "webhooks": "What is told to others: endpoints, and deliveries.",
    "kv": "Named values.",
    "tokens": "Who may do what, and where.",
    "retention": "For how long is kept what has ended.",
    "audit": "Who did what.",
    "stats": "Sums over all queues.",
    "workers": "Worker processes.",
    "doctor": "Is the store well, and what is to be done.",
    "events": "What happens, as it happens.",
    "tickets": "How a browser comes to a stream.",
}
_TEXT: Final = (
    "conveyor's own API. Lists are paged by opaque cursors; edits take the `ETag` of what they change as `If-Match`; "
    "errors are problem details (RFC 9457) with a `code` for programs and a `hint` for people. Durations are whole "
    "milliseconds in fields that end in `_ms`, moments are RFC 3339 in UTC. The events of `/events` also come over a "
    "WebSocket at `/ws`, what one job says at `/jobs/{job}/ws`."
)


class ProblemShown(Told, frozen=True, kw_only=True):
    """What went wrong."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None
    request_id: str


def make_document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole document; the same for the same table."""
    known = list(operations)
    schemas, components = _schemas(known)
    paths: dict[str, dict[str, Any]] = {}
    for each in known:
        paths.setdefault(_PARAMETER.sub(r"{\1}", each.path), {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "conveyor", "version": "1", "description": _TEXT, "license": {"name": "MIT"}},
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "`conveyor tokens create` makes one."}
            },
            "responses": {
                "Problem": {
                    "description": "What went wrong.",
                    "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="ProblemShown")}}},
                }
            },
        },
    }


def serve_document(document: Mapping[str, Any]) -> Endpoint:
    """For anybody: it tells nothing that is not in the documentation."""
    body = msgspec.json.encode(document)

    async def get_document(_call: Call) -> Answer:
        return Answer(200, body)

    return Endpoint(method="GET", path=PATH, right=None, handle=get_document)


def _schemas(operations: Iterable[Operation]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """The schema of each type of a body, and the components that they refer to."""
    types: list[Any] = [ProblemShown]
    for each in operations:
        types += [kind for kind in (each.takes, each.gives) if kind is not None and kind not in types]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    plain = {name: _plain(schema) for name, schema in sorted(components.items())}
    return dict(zip(types, schemas, strict=True)), plain


def _plain(schema: Any) -> Any:
    """Docstrings as one paragraph, and no word of private classes."""
    if isinstance(schema, dict):
        return {
            name: " ".join(value.split()) if name == "description" and isinstance(value, str) else _plain(value)
            for name, value in schema.items()
        }
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


def _operation(each: Operation, schemas: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    said = " ".join((inspect.getdoc(each.handle) or "").split())
    summary, _, more = said.partition(". ")
    found: dict[str, Any] = {
        "operationId": each.id,
        "tags": [each.path.split("/")[1]],
        "summary": summary.rstrip("."),
        "description": f"{more} {_rights(each)}".strip() if more else _rights(each),
        "parameters": [*_path_parameters(each), *_query_parameters(each), *_header_parameters(each)],
        "responses": _responses(each, schemas),
    }
    if each.right is None:
        found["security"] = []
    if each.takes is not None:
        content = {"application/json": {"schema": schemas[each.takes]}}
        found["requestBody"] = {"required": not each.may_be_empty, "content": content}
    return found


def _rights(each: Operation) -> str:
    if each.right is None:
        return "Needs no token."
    where = "in the whole store" if each.scope in ("store", "job") else "on the queue"
    if each.scope == "job":
        return f"Needs the right `{each.right}` {where}, or an end user's token for this job."
    return f"Needs the right `{each.right}` {where}."


def _path_parameters(each: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _NAMES[name]} for name in _PARAMETER.findall(each.path)
    ]


def _query_parameters(each: Operation) -> list[dict[str, Any]]:
    if each.query is None:
        return []
    _, components = msgspec.json.schema_components([each.query], ref_template=_REF)
    schema = components[each.query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": _given(kind)}
        for name, kind in schema["properties"].items()
    ]


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """What a query can say: null is said by saying nothing."""
    if "anyOf" not in schema:
        return schema
    kinds = [each for each in schema["anyOf"] if each != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _header_parameters(each: Operation) -> list[dict[str, Any]]:
    names = [*(("If-Match",) if each.versioned else ()), *each.headers]
    return [
        {"name": name, "in": "header", "required": name == "If-Match", "schema": {"type": "string", "minLength": 1}}
        for name in names
    ]


def _responses(each: Operation, schemas: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    if each.streams:
        answer: dict[str, Any] = {
            "description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}
        }  # fmt: skip
        return {"200": answer, "default": {"$ref": "#/components/responses/Problem"}}
    if each.gives is None:
        return {"204": {"description": "Done."}, "default": {"$ref": "#/components/responses/Problem"}}
    answer = {
        "description": "Done.",
        "content": {"application/json": {"schema": schemas[each.gives]}},
    }
    if each.versioned or (each.method == "GET" and each.id in _WITH_ETAG):
        answer["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "The version, for `If-Match`."}}
    return {str(each.status): answer, "default": {"$ref": "#/components/responses/Problem"}}
