"""Workers, as far as `wrangler secret`, `triggers deploy`, `deployments` and `delete` need them. There is no code: a
Worker is an app, and uploading one is refused in words that wrangler prints."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Final

import msgspec

from conveyor.model.refusals import InvalidRequestError
from conveyor.queue.admin import Queues
from conveyor.secrets import delete_secret, read_secrets
from conveyor.server.cloudflare.dialect import Refusal, moment, succeed
from conveyor.server.cloudflare.schedules import CRONS
from conveyor.server.cloudflare.scripts import (
    NO_SERVICE,
    SCRIPTS,
    Script,
    find_script,
    list_scripts,
    make_draft,
    refuse_code,
)
from conveyor.server.cloudflare.secrets import write_secrets
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rights import Right

UPLOAD_MAX: Final = 16 * 1024 * 1024
"""Enough to be read, and then refused with a reason."""
NO_VERSION: Final = 100_146
HAS_CONSUMERS: Final = 10_064


class _Subdomain(msgspec.Struct, forbid_unknown_fields=True):
    enabled: bool
    previews_enabled: bool | None = None


class _Binding(msgspec.Struct):
    type: str
    name: str
    text: str | None = None


class _Settings(msgspec.Struct):
    bindings: list[_Binding] | None = None


class _Metadata(msgspec.Struct):
    main_module: str = ""
    bindings: list[Any] = []


async def list_workers(call: Call) -> Answer:
    return succeed([_show(each) for each in await list_scripts(call)])


async def get_service(call: Call) -> Answer:
    script = await find_script(call, number=NO_SERVICE)
    shown = {**_show(script), "tags": [], "last_deployed_from": "wrangler"}
    return succeed({"id": script.name, "default_environment": {"environment": "production", "script": shown}})


async def delete_worker(call: Call) -> Answer:
    """A draft, or what is left of an app: its secrets, its crons and, by force, its consumers."""
    script = await find_script(call, number=NO_SERVICE)
    if call.app is not None and call.app.name == script.name:
        words = f"`{script.name}` is the app that is served here: stop `conveyor serve` first"
        raise Refusal(HAS_CONSUMERS, words, status=409)
    queues = await call.store.list_queues()
    consumed = [each.name for each in queues if each.consumer is not None and each.consumer.script == script.name]
    if consumed and call.query.get("force") != "true":
        words = f"`{script.name}` consumes {', '.join(consumed)}: remove its consumers, or use force"
        raise Refusal(HAS_CONSUMERS, words, status=409)
    for queue in consumed:
        await Queues(call.store).put_consumer(queue, None)
    for name in await read_secrets(call.store, script.name):
        await delete_secret(call.store, script.name, name)
    await call.store.delete_document(CRONS, script.name)
    await call.store.delete_document(SCRIPTS, script.name)
    return succeed(None)


async def put_script(call: Call) -> Answer:
    """The draft that `wrangler secret put` makes for a new name; anything else is code, and refused."""
    name = call.path["script"]
    metadata = _part(call, "metadata", _Metadata)
    if metadata.main_module != name or metadata.bindings or "excludeScript" in call.query:
        raise refuse_code(name)
    script = await make_draft(call)
    return succeed({**_show(script), "deployment_id": script.version.replace("-", ""), "startup_time_ms": 0})


async def refuse_upload(call: Call) -> Answer:
    """A version, a deployment, a script's code."""
    raise refuse_code(call.path["script"])


async def refuse_tail(call: Call) -> Answer:
    await find_script(call)
    words = "there are no live logs over this API: `conveyor tail` shows what happens, workers log to standard error"
    raise Refusal(10_405, words)


async def get_settings(call: Call) -> Answer:
    script = await find_script(call)
    names = await read_secrets(call.store, script.name)
    bindings = [{"type": "secret_text", "name": name} for name in names]
    return succeed({"bindings": bindings, "logpush": False, "tags": []})


async def edit_settings(call: Call) -> Answer:
    """`secret bulk` of wrangler 4.86: bindings with a text are written, those without stay, those not named go."""
    script = await find_script(call)
    bindings = _part(call, "settings", _Settings).bindings
    if bindings is not None:
        told = {each.name: each.text for each in bindings if each.type == "secret_text"}
        gone = [name for name in await read_secrets(call.store, script.name) if name not in told]
        written = {name: text for name, text in told.items() if text is not None}
        await write_secrets(call, script.name, {**written, **dict.fromkeys(gone)})
    return await get_settings(call)


async def get_account_subdomain(_call: Call) -> Answer:
    return succeed({"subdomain": "conveyor"})


async def get_subdomain(call: Call) -> Answer:
    await find_script(call)
    return succeed({"enabled": False, "previews_enabled": False})


async def put_subdomain(call: Call) -> Answer:
    """Accepted and of no effect: an app is reached where `conveyor serve` listens."""
    await find_script(call)
    wanted = call.decode(_Subdomain)
    return succeed({"enabled": wanted.enabled, "previews_enabled": bool(wanted.previews_enabled)})


async def get_worker(call: Call) -> Answer:
    script = await find_script(call)
    subdomain = {"enabled": False, "previews_enabled": False}
    return succeed({**_show(script), "name": script.name, "subdomain": subdomain, "tags": [], "logpush": False})


async def edit_latest(call: Call) -> Answer:
    """`versions secret put` of wrangler 4.164."""
    script = await find_script(call)
    env = call.decode(_Latest).env
    if any(each is not None and each.type != "secret_text" for each in env.values()):
        raise refuse_code(script.name)
    await write_secrets(call, script.name, {name: None if each is None else each.text for name, each in env.items()})
    return succeed({"id": script.version, "name": script.name})


class _Env(msgspec.Struct):
    type: str
    text: str | None = None


class _Latest(msgspec.Struct):
    env: dict[str, _Env | None] = {}


async def list_deployments(call: Call) -> Answer:
    """One: the app, as its processes run it."""
    script = await find_script(call)
    deployment: dict[str, Any] = {
        "id": script.deployment,
        "source": "api",
        "strategy": "percentage",
        "author_email": "conveyor@localhost",
        "created_on": moment(script.created_at),
        "annotations": {"workers/message": "run by conveyor, beside its store"},
        "versions": [{"version_id": script.version, "percentage": 100}],
    }
    found = _first_page(call, [] if script.is_draft else [deployment])
    return succeed({"deployments": found, "items": found})


async def list_versions(call: Call) -> Answer:
    script = await find_script(call)
    return succeed({"items": _first_page(call, [] if script.is_draft else [_version(script)])})


def _first_page(call: Call, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The SDKs ask for the next page until one is empty."""
    return items if call.query.number("page", 1, least=1, most=10**9) == 1 else []


async def get_version(call: Call) -> Answer:
    script = await find_script(call)
    if script.is_draft or call.path["version"] not in (script.version, script.version.replace("-", "")):
        raise Refusal(NO_VERSION, "Version not found.", status=404)
    return succeed(_version(script))


async def list_objects(_call: Call) -> Answer:
    """Durable Objects, of which there are none."""
    return succeed([], info={"page": 1, "per_page": 1_000, "count": 0, "total_count": 0, "total_pages": 1})


async def get_references(call: Call) -> Answer:
    """Who else uses this Worker: `wrangler delete` asks."""
    await find_script(call)
    return succeed({})


async def list_tails(_call: Call) -> Answer:
    return succeed([])


def _show(script: Script) -> dict[str, Any]:
    since = moment(script.created_at)
    return {"id": script.name, "tag": script.tag, "etag": script.tag, "created_on": since, "modified_on": since}


def _version(script: Script) -> dict[str, Any]:
    since = moment(script.created_at)
    return {
        "id": script.version,
        "number": 1,
        "metadata": {
            "created_on": since, "modified_on": since, "source": "api", "author_email": "conveyor@localhost",
            "hasPreview": False,
        },
        "annotations": {"workers/message": "run by conveyor, beside its store"},
        "resources": {
            "bindings": [], "script": {"etag": script.tag, "handlers": ["queue", "scheduled"]}, "script_runtime": {},
        },
    }  # fmt: skip


def _part(call: Call, name: str, kind: Any) -> Any:
    """A part of a multipart body, as JSON of this type. `InvalidRequestError`."""
    given = call.header("content-type") or ""
    if not given.isprintable() or not given.lower().startswith("multipart/form-data"):
        raise InvalidRequestError("the body is no multipart/form-data")
    try:
        parsed = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + given.encode() + b"\r\n\r\n" + call.body)
        for part in parsed.iter_parts():
            if part.get_param("name", header="content-disposition") == name:
                content: Any = part.get_payload(decode=True)
                return msgspec.json.decode(content, type=kind)
    except (ValueError, LookupError, RecursionError, AttributeError, TypeError) as error:
        raise InvalidRequestError(f"the part `{name}` does not fit") from error
    raise InvalidRequestError(f"the body has no part `{name}`")


def _endpoint(
    method: str, path: str, handle: Any, right: Right = Right.READ, action: str | None = None, **more: Any
) -> Endpoint:
    return Endpoint(
        method=method, path=path, right=right, handle=handle, scope="store", action=action, content_types=(), **more
    )


_SCRIPT: Final = "/workers/scripts/{script}"
ENDPOINTS: Final = (
    _endpoint("GET", "/workers/scripts", list_workers),
    _endpoint("GET", "/workers/services/{script}", get_service),
    _endpoint("DELETE", "/workers/services/{script}", delete_worker, Right.MANAGE, "worker.delete"),
    _endpoint("GET", "/workers/services/{script}/environments/{environment}/references", get_references),
    _endpoint("GET", f"{_SCRIPT}/references", get_references),
    _endpoint("GET", "/workers/tails/by-consumer/{script}", list_tails),
    _endpoint("PUT", _SCRIPT, put_script, Right.MANAGE, "worker.create", body_max=UPLOAD_MAX),
    _endpoint("DELETE", _SCRIPT, delete_worker, Right.MANAGE, "worker.delete"),
    _endpoint("GET", f"{_SCRIPT}/versions", list_versions),
    _endpoint("POST", f"{_SCRIPT}/versions", refuse_upload, Right.MANAGE, "worker.upload", body_max=UPLOAD_MAX),
    _endpoint("GET", f"{_SCRIPT}/versions/{{version}}", get_version),
    _endpoint("GET", f"{_SCRIPT}/deployments", list_deployments),
    _endpoint("POST", f"{_SCRIPT}/deployments", refuse_upload, Right.MANAGE, "worker.deploy"),
    _endpoint("GET", f"{_SCRIPT}/settings", get_settings),
    _endpoint("PATCH", f"{_SCRIPT}/settings", edit_settings, Right.MANAGE, "secret.put", body_max=1 << 20),
    _endpoint("GET", f"{_SCRIPT}/subdomain", get_subdomain),
    _endpoint("POST", f"{_SCRIPT}/subdomain", put_subdomain, Right.MANAGE, "worker.subdomain"),
    _endpoint("POST", f"{_SCRIPT}/tails", refuse_tail, Right.MANAGE, "worker.tail"),
    _endpoint("GET", "/workers/subdomain", get_account_subdomain),
    _endpoint("GET", "/workers/workers/{script}", get_worker),
    _endpoint("PATCH", "/workers/workers/{script}/versions/latest", edit_latest, Right.MANAGE, "secret.put"),
    _endpoint("GET", "/workers/durable_objects/namespaces", list_objects),
)
