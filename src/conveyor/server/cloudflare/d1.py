"""D1 on Cloudflare's wire: `wrangler d1 create, list, info, execute, delete`, and the SDKs' `d1.database`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from conveyor.databases.catalog import DatabaseInfo, Databases
from conveyor.databases.engine import Result, Statement
from conveyor.model.beside import QueryError
from conveyor.model.errors import ConflictError, InvalidSettingError, NotFoundError, StoreBusyError
from conveyor.server.cloudflare.dialect import Refusal, moment, succeed
from conveyor.server.cloudflare.paging import read_page
from conveyor.server.cloudflare.scripts import files_of
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rights import Right

BAD_REQUEST: Final = 7_400
NOT_FOUND: Final = 7_404
BUSY: Final = 7_429
FAILED: Final = 7_500
NAME_TAKEN: Final = 7_502
PER_PAGE: Final = 1_000
QUERY_BYTES_MAX: Final = 8 * 1024 * 1024
BATCH_MAX: Final = 1_000


class _Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    primary_location_hint: str | None = None
    jurisdiction: str | None = None
    read_replication: Any = None


class _Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sql: str | None = None
    params: list[Any] | None = None
    batch: list[Statement] | None = None


async def list_databases(call: Call) -> Answer:
    found = await _databases(call).list_all(part=call.query.get("name", ""))
    items, info = read_page(call, found, per_page=PER_PAGE)
    return succeed([_show(each) for each in items], info=info)


async def create_database(call: Call) -> Answer:
    draft = call.decode(_Draft)
    call.target = draft.name
    try:
        made = await _databases(call).create(draft.name)
    except ConflictError as error:
        words = f"A database with the name '{draft.name}' already exists"
        raise Refusal(NAME_TAKEN, words, status=409) from error
    except InvalidSettingError as error:
        raise Refusal(BAD_REQUEST, f"Invalid database name: {error}") from error
    return succeed({**_show(made), "num_tables": 0, "created_in_region": "LOCAL"})


async def get_database(call: Call) -> Answer:
    try:
        found = await _databases(call).get(call.path["database"], tables=True)
    except NotFoundError as error:
        raise _missing(call) from error
    shown = {**_show(found), "num_tables": found.tables, "running_in_region": "LOCAL"}
    fields = [each for each in call.query.get("fields", "").split(",") if each]
    return succeed({name: value for name, value in shown.items() if not fields or name in fields})


async def delete_database(call: Call) -> Answer:
    try:
        await _databases(call).delete(call.path["database"])
    except NotFoundError as error:
        raise _missing(call) from error
    return succeed(None)


async def query_database(call: Call) -> Answer:
    """Rows as objects."""
    return succeed([_result(each, _rows(each)) for each in await _run(call)])


async def query_raw(call: Call) -> Answer:
    """Rows as arrays, beside the names of their columns: of several columns of one name none is lost."""
    return succeed([_result(each, {"columns": each.columns, "rows": each.rows}) for each in await _run(call)])


async def refuse_transfer(_call: Call) -> Answer:
    """`d1 export`, `d1 execute --file`, time travel."""
    words = "there are no imports, exports or time travel here: send statements with `d1 execute --command`"
    raise Refusal(BAD_REQUEST, words)


async def _run(call: Call) -> list[Result]:
    given = call.decode(_Query)
    if (given.sql is None) == (given.batch is None) or len(given.batch or ()) > BATCH_MAX:
        raise Refusal(BAD_REQUEST, f"the body has either `sql` or `batch`, of {BATCH_MAX:,} statements at most")
    batch = given.batch if given.batch is not None else [Statement(given.sql or "", given.params)]
    try:
        return await _databases(call).query(call.path["database"], batch)
    except NotFoundError as error:
        raise _missing(call) from error
    except StoreBusyError as error:
        raise Refusal(BUSY, "D1 DB is overloaded. Too many requests queued.", status=429) from error
    except QueryError as error:
        raise Refusal(FAILED, str(error)) from error


def _databases(call: Call) -> Databases:
    declared = call.app.worker.databases.values() if call.app is not None else ()
    return Databases(call.store, lambda: files_of(call), declared)


def _missing(call: Call) -> Refusal:
    return Refusal(NOT_FOUND, f"The database {call.path['database'][:64]} could not be found", status=404)


def _show(info: DatabaseInfo) -> dict[str, Any]:
    return {
        "uuid": info.uuid,
        "name": info.name,
        "version": "production",
        "created_at": moment(info.created_at),
        "file_size": info.size,
    }


def _rows(result: Result) -> list[dict[str, Any]]:
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def _result(result: Result, rows: Any) -> dict[str, Any]:
    meta = {
        "served_by": "conveyor",
        "served_by_region": "LOCAL",
        "served_by_primary": True,
        "duration": round(result.duration_ms, 4),
        "timings": {"sql_duration_ms": round(result.duration_ms, 4)},
        "changes": result.changes,
        "last_row_id": result.last_row_id,
        "changed_db": result.changes > 0,
        "size_after": result.size_after,
        "rows_read": result.rows_read,
        "rows_written": result.changes,
    }
    return {"results": rows, "success": True, "meta": meta}


def _endpoint(method: str, path: str, handle: Any, right: Right, action: str | None = None, **more: Any) -> Endpoint:
    where = f"/d1/database{path}"
    return Endpoint(
        method=method, path=where, right=right, handle=handle, scope="store", action=action, content_types=(), **more
    )


ENDPOINTS: Final = (
    _endpoint("GET", "", list_databases, Right.READ),
    _endpoint("POST", "", create_database, Right.MANAGE, "database.create"),
    _endpoint("GET", "/{database}", get_database, Right.READ),
    _endpoint("DELETE", "/{database}", delete_database, Right.MANAGE, "database.delete"),
    _endpoint("POST", "/{database}/query", query_database, Right.MANAGE, "database.query", body_max=QUERY_BYTES_MAX),
    _endpoint("POST", "/{database}/raw", query_raw, Right.MANAGE, "database.query", body_max=QUERY_BYTES_MAX),
    _endpoint("POST", "/{database}/import", refuse_transfer, Right.MANAGE, "database.import"),
    _endpoint("POST", "/{database}/export", refuse_transfer, Right.MANAGE, "database.export"),
    _endpoint("GET", "/{database}/time_travel/bookmark", refuse_transfer, Right.READ),
    _endpoint("POST", "/{database}/time_travel/restore", refuse_transfer, Right.MANAGE, "database.restore"),
)
