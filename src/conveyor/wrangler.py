"""Reads a Worker's `wrangler.json`, `wrangler.jsonc` or `wrangler.toml`: its queues, crons, vars and bindings.

In comes a file, or nothing; out goes a `Worker`. What an app must declare to fit it, `conveyor.declaring` says. A key
that would change how a Worker behaves and that conveyor does not follow is an error that names it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from conveyor.model.duration import DAY_MS, read_duration_ms
from conveyor.model.errors import InvalidSettingError
from conveyor.model.settings import Default
from conveyor.model.verdict import Backoff

NAMES: Final = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")
"""In the order in which `wrangler` takes them."""

_USED: Final = ("queues", "triggers", "vars", "kv_namespaces", "r2_buckets", "d1_databases")
# What says how Cloudflare builds, places, names, watches and pays for a Worker: nothing of it changes what it does.
_HARMLESS: Final = frozenset({
    "$schema", "name", "main", "account_id", "compatibility_date", "compatibility_flags", "workers_dev", "preview_urls",
    "route", "routes", "observability", "logpush", "limits", "placement", "usage_model", "keep_vars", "send_metrics",
    "upload_source_maps", "minify", "keep_names", "no_bundle", "find_additional_modules", "preserve_file_names",
    "base_dir", "rules", "build", "dev", "tsconfig", "jsx_factory", "jsx_fragment", "define", "alias",
    "first_party_worker", "legacy_env", "node_compat", "python_modules", "compliance_region", "previews",
    "pages_build_output_dir", "dependencies_instrumentation", "secrets",
})  # fmt: skip
# What a Worker's code would miss here, and what there is instead.
_MISSING: Final = MappingProxyType({
    "durable_objects": "keep the state in `app.kv(...)`, and order work by a message's `key`",
    "migrations": "they belong to Durable Objects, which there are none of",
    "workflows": "write the steps as messages of a queue",
    "services": "call the other service by HTTP",
    "tail_consumers": "read the events of `conveyor tail`",
    "assets": "serve files from the app's own HTTP: `app.mount(...)`",
    "site": "serve files from the app's own HTTP: `app.mount(...)`",
    "dispatch_namespaces": "", "containers": "", "ai": "", "ai_search": "", "browser": "", "images": "", "media": "",
    "hyperdrive": "connect to the database itself", "vectorize": "", "analytics_engine_datasets": "", "pipelines": "",
    "mtls_certificates": "", "send_email": "", "addresses": "", "access": "", "cache": "", "connect": "", "exports": "",
    "agent_memory": "", "ai_search_namespaces": "", "analytics": "", "artifacts": "", "flagship": "", "k2": "",
    "logfwdr": "", "streaming_tail_consumers": "", "unsafe_hello_world": "", "vpc_networks": "",
    "secrets_store_secrets": "`app.secrets[...]` reads what `wrangler secret put` wrote",
    "ratelimits": "give the consumer `rate=` or `key_rate=`",
    "unsafe": "", "text_blobs": "", "data_blobs": "", "wasm_modules": "", "version_metadata": "", "stream": "",
    "cloudchamber": "", "vpc_services": "", "worker_loaders": "",
})  # fmt: skip


_INHERITED: Final = frozenset({"triggers", "assets", "migrations", "site", "access", "cache"})
"""Of those that have a meaning here, or would have one, what an environment takes from the top level."""


class _Producer(msgspec.Struct, frozen=True, kw_only=True):
    queue: str
    binding: str
    delivery_delay: int | None = None
    remote: bool = False


class _Consumer(msgspec.Struct, frozen=True, kw_only=True):
    queue: str
    type: str = "worker"
    max_batch_size: int | None = None
    max_batch_timeout: int | float | None = None
    max_retries: int | None = None
    dead_letter_queue: str | None = None
    max_concurrency: int | None = None
    retry_delay: int | float | None = None
    visibility_timeout_ms: int | None = None


class _Queues(msgspec.Struct, frozen=True, kw_only=True):
    producers: list[_Producer] = []
    consumers: list[_Consumer] = []


class _Triggers(msgspec.Struct, frozen=True, kw_only=True):
    crons: list[str] | None = None


class _Namespace(msgspec.Struct, frozen=True, kw_only=True):
    binding: str
    id: str | None = None
    preview_id: str | None = None
    remote: bool = False


class _Bucket(msgspec.Struct, frozen=True, kw_only=True):
    binding: str
    bucket_name: str | None = None
    preview_bucket_name: str | None = None
    jurisdiction: str | None = None
    remote: bool = False
    local_dev: Any = None


class _Database(msgspec.Struct, frozen=True, kw_only=True):
    binding: str
    database_name: str | None = None
    database_id: str | None = None
    preview_database_id: str | None = None
    database_internal_env: str | None = None
    migrations_dir: str | None = None
    migrations_table: str | None = None
    migrations_pattern: str | None = None
    jurisdiction: str | None = None
    remote: bool = False


class _Sections(msgspec.Struct, frozen=True, kw_only=True):
    """What conveyor follows."""

    queues: _Queues = _Queues()
    triggers: _Triggers = _Triggers()
    vars: dict[str, Any] = {}
    kv_namespaces: list[_Namespace] = []
    r2_buckets: list[_Bucket] = []
    d1_databases: list[_Database] = []


_ITEMS: Final[Mapping[str, type[msgspec.Struct]]] = MappingProxyType({
    "queues": _Queues, "queues.producers": _Producer, "queues.consumers": _Consumer, "triggers": _Triggers,
    "kv_namespaces": _Namespace, "r2_buckets": _Bucket, "d1_databases": _Database,
})  # fmt: skip


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of one Worker; empty without a file."""

    source: str = ""
    """The file, and the environment in it: for errors."""
    name: str | None = None
    producers: Mapping[str, int | None] = {}
    """Queue -> its delivery delay in seconds, for a queue that is yet to be made."""
    consumers: Mapping[str, Mapping[str, Any]] = {}
    """Queue -> the options that the file gives, under the names of `@app.consumer`."""
    crons: tuple[str, ...] = ()
    vars: Mapping[str, Any] = {}
    namespaces: Mapping[str, str] = {}
    """Binding -> the id of a KV namespace, or the binding itself."""
    buckets: Mapping[str, str] = {}
    """Binding -> the bucket's name."""
    databases: Mapping[str, tuple[str, str]] = {}
    """Binding -> the database's id, or nothing, and its name."""

    def options_of(self, queue: str, **given: Any) -> dict[str, Any]:
        """A consumer's options: what the decorator says, else the file, else the default. `InvalidSettingError` where
        the first two differ."""
        written = self.consumers.get(queue, {})
        for name, value in given.items():
            if not isinstance(value, Default) and name in written and not _agree(name, value, written[name]):
                raise InvalidSettingError(
                    name,
                    value,
                    f"that is what `@app.consumer({queue!r})` says, and {self.source} says {written[name]!r}",
                    hint="say it in one of the two",
                )
        return {
            name: written.get(name, _usual(queue, value)) if isinstance(value, Default) else value
            for name, value in given.items()
        }


def find_file(folder: Path) -> Path | None:
    """The nearest file, upward from `folder`."""
    places = (each / name for each in (folder, *folder.parents) for name in NAMES)
    return next((path for path in places if path.is_file()), None)


def read_worker(given: str | os.PathLike[str] | Default | None, environment: str | None) -> Worker:
    """What `Conveyor(wrangler=..., environment=...)` means: a file, the nearest one, or none. `CONVEYOR_WRANGLER` and
    `CLOUDFLARE_ENV` say what Python does not. `InvalidSettingError` names the key that is wrong."""
    if isinstance(given, Default):
        named = os.environ.get("CONVEYOR_WRANGLER")
        path = find_file(Path.cwd()) if named is None else Path(named) if named else None
    else:
        path = None if given is None else Path(given)
    if path is None:
        return Worker()
    return read_file(path, environment or os.environ.get("CLOUDFLARE_ENV") or None)


def read_file(path: Path, environment: str | None = None) -> Worker:
    """One file, in one of its environments. `InvalidSettingError`."""
    table = _load(path)
    chosen, source = _choose(table, environment, path.name)
    chosen = {name: value for name, value in chosen.items() if name != "env"}
    _check_top(chosen, source)
    used: dict[str, Any] = {name: chosen[name] for name in _USED if name in chosen}
    for place, kind in _ITEMS.items():
        _check_items(used, place, kind, source)
    try:
        sections = msgspec.convert(used, _Sections)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at ")
        name = where.strip("`").removeprefix("$.") or "the file"
        raise InvalidSettingError(name, _value_at(used, name), f"{problem} (in {source})") from None
    return _worker(sections, chosen.get("name"), source)


def _choose(table: dict[str, Any], environment: str | None, file: str) -> tuple[dict[str, Any], str]:
    """The top level, or one environment laid over what is inherited from it: all but bindings, vars and queues."""
    environments = table.get("env", {})
    if environment is None:
        return table, f"`{file}`"
    if not isinstance(environments, dict) or not isinstance(environments.get(environment), dict):
        known = ", ".join(f"`{name}`" for name in environments) or "none"
        problem = f"`{file}` has no `env.{environment}`"
        raise InvalidSettingError("CLOUDFLARE_ENV", environment, problem, hint=f"it has {known}")
    own = environments[environment]
    own_only = (*_USED, *_MISSING)  # bindings and the like
    inherited = {name: value for name, value in table.items() if name not in own_only or name in _INHERITED}
    if isinstance(table.get("name"), str):  # as wrangler names it, unless it has a name of its own
        inherited["name"] = f"{table['name']}-{environment}"
    return {**inherited, **own}, f"`{file}`, env.{environment}"


def _check_top(table: Mapping[str, Any], source: str) -> None:
    for name, value in table.items():
        if name in _USED or name in _HARMLESS:
            continue
        if name in _MISSING:
            if not value:
                continue
            hint = _MISSING[name] or "remove it, or keep a file without it for conveyor: CONVEYOR_WRANGLER=path"
            raise InvalidSettingError(name, _short(value), f"conveyor has nothing like it (in {source})", hint=hint)
        raise _unknown(name, value, (*_USED, *_HARMLESS, *_MISSING), source)


def _check_items(table: Mapping[str, Any], place: str, kind: type[msgspec.Struct], source: str) -> None:
    """No key that the section does not have; it need not be well-formed yet."""
    found: Any = table
    for part in place.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    items = enumerate(found) if isinstance(found, list) else [(None, found)]
    for number, item in items:
        if not isinstance(item, dict):
            continue
        where = place if number is None else f"{place}[{number}]"
        for name in item:
            if name not in kind.__struct_fields__:
                known = [f"{where}.{each}" for each in kind.__struct_fields__]
                raise _unknown(f"{where}.{name}", item[name], known, source)


def _unknown(name: str, value: object, known: Any, source: str) -> InvalidSettingError:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    hint = f"do you mean `{close[0]}`?" if close else "conveyor does not know it, so it cannot follow it: remove it"
    return InvalidSettingError(name, _short(value), f"is no setting that there is (in {source})", hint=hint)


def _short(value: object) -> object:
    return value if isinstance(value, (str, int, float, bool)) and len(str(value)) <= 64 else "..."


def _value_at(table: object, place: str) -> object:
    """What stands there, where that is a plain value."""
    found: Any = table
    for part in re.findall(r"[^.\[\]]+", place):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return "..."
    return _short(found)


def _worker(sections: _Sections, name: object, source: str) -> Worker:
    return Worker(
        source=source,
        name=name if isinstance(name, str) else None,
        producers={each.queue: each.delivery_delay for each in sections.queues.producers},
        consumers=dict(_consumers(sections.queues.consumers, source)),
        crons=tuple(sections.triggers.crons or ()),
        vars=MappingProxyType(sections.vars),
        namespaces={each.binding: each.id or each.binding for each in sections.kv_namespaces},
        buckets={each.binding: each.bucket_name or each.binding for each in sections.r2_buckets},
        databases={
            each.binding: (each.database_id or "", each.database_name or each.binding) for each in sections.d1_databases
        },
    )


def _consumers(items: list[_Consumer], source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    seen: set[str] = set()
    for number, each in enumerate(items):
        if each.type != "worker":
            raise InvalidSettingError(
                f"queues.consumers[{number}].type",
                each.type,
                f'can only be "worker" in a file (in {source})',
                hint=f"conveyor queues consumer http add {each.queue}",
            )
        if each.queue in seen:
            name, problem = f"queues.consumers[{number}].queue", f"has two consumers (in {source})"
            raise InvalidSettingError(name, each.queue, problem)
        seen.add(each.queue)
        options = msgspec.structs.asdict(each)
        for name in ("queue", "type", "visibility_timeout_ms"):  # the last is a pull consumer's
            del options[name]
        yield each.queue, {name: value for name, value in options.items() if value is not None}


def _usual(queue: str, default: Default) -> object:
    return f"{queue}-dlq" if default is Default.DEAD_LETTER_QUEUE else default.value


def _agree(name: str, given: Any, written: Any) -> bool:
    """Whether a decorator and a file say the same: the file in seconds, Python in any way that it has."""
    if name not in ("max_batch_timeout", "retry_delay"):
        return bool(given == written)
    if isinstance(given, Backoff):
        return bool(given == Backoff.fixed(written))
    return bool(read_duration_ms(given, name=name, most_ms=DAY_MS) == round(written * 1000))


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidSettingError("wrangler", str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSettingError("wrangler", str(path), f"cannot be read: {error}") from error
    table = _load_toml(path, text) if path.suffix == ".toml" else _load_jsonc(path, text)
    if not isinstance(table, dict):
        raise InvalidSettingError("wrangler", str(path), "is no table of settings")
    return table


def _load_toml(path: Path, text: str) -> Any:
    import tomllib  # most have no such file

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidSettingError("wrangler", str(path), f"cannot be read: {error}") from error


def _load_jsonc(path: Path, text: str) -> Any:
    import json  # its errors name the line

    try:
        return json.loads(strip_jsonc(text))
    except (ValueError, RecursionError) as error:
        raise InvalidSettingError("wrangler", str(path), f"cannot be read: {error}") from error


_SKIPPED: Final = r"//[^\n]*+|(?>/\*.*?\*/)"
_TOKEN: Final = re.compile(rf'"(?:\\.|[^"\\])*+"|{_SKIPPED}|,(?=(?:\s|{_SKIPPED})*+[}}\]])', re.DOTALL)


def strip_jsonc(text: str) -> str:
    """JSON with comments and trailing commas as plain JSON of the same lines and columns.

    >>> strip_jsonc('{"a": "//", /* b */ "c": [1, 2,], } // d')
    '{"a": "//",         "c": [1, 2 ] }     '
    """
    return _TOKEN.sub(lambda match: match[0] if match[0][0] == '"' else re.sub(r"[^\n]", " ", match[0]), text)
