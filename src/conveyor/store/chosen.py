"""Which stores are meant: by Python or a command line, else by the environment, else by `pyproject.toml`.

    [tool.conveyor]
    url = "sqlite:///conveyor.db"

    [tool.conveyor.stores]
    media = "${MEDIA_DATABASE_URL}"

    [tool.conveyor.routes]
    "video-*" = "media"

    [tool.conveyor.buckets]
    UPLOADS = "s3://${KEY}:${SECRET}@uploads?region=eu-central-1"

`files` is the folder of buckets, D1 databases and the key of secrets; else it lies beside the home store's file.
`encrypted = ["message-delivery"]` says which queues' payloads lie encrypted.
Buckets that `buckets` does not name lie there.

Who names one URL in Python or by `--url` means that one store. In the environment `CONVEYOR_STORES`,
`CONVEYOR_ROUTES` and `CONVEYOR_BUCKETS` are JSON, and each replaces the table of its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from conveyor.model.errors import InvalidSettingError
from conveyor.store.routing import Routing
from conveyor.store.urls import DEFAULT_URL, shown_url

_FILE: Final = "pyproject.toml"
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SQLITE: Final = "sqlite:///"


def choose_stores(
    url: str | None = None, stores: Mapping[str, str] | None = None, routes: Mapping[str, str] | None = None
) -> Routing:
    """The table, checked. `InvalidSettingError`."""
    if url is not None or stores is not None or routes is not None:
        routing = Routing(
            url=url or os.environ.get("CONVEYOR_URL") or DEFAULT_URL,
            stores={name: _expand(f"stores.{name}", each) for name, each in (stores or {}).items()},
            routes=dict(routes or {}),
        )
    else:
        routing = _read_settings()
    routing.check()
    return routing


def choose_files(url: str) -> Path:
    """The folder of what a home store keeps as files: by `CONVEYOR_FILES`, else by `pyproject.toml`, else beside the
    store's own file. Nothing is made. `InvalidSettingError`."""
    if given := os.environ.get("CONVEYOR_FILES"):
        return Path(given).absolute()
    folder, table = _read_file()
    if "files" in table:
        if not isinstance(table["files"], str):
            raise InvalidSettingError("files", table["files"], "is no folder")
        return folder / _expand("files", table["files"])
    if not url.startswith(_SQLITE):
        return Path("conveyor-files").absolute()
    path = Path(unquote(url.removeprefix(_SQLITE))).absolute()
    return path.with_name(f"{path.name}-files")


def choose_buckets(given: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """URLs of buckets, by name: by Python, else by `CONVEYOR_BUCKETS`, else by `pyproject.toml`. `InvalidSettingError`,
    which shows no credentials."""
    table = _from_environment("CONVEYOR_BUCKETS") if given is None else given
    if table is None:
        table = _table(_read_file()[1], "buckets")
    for name, url in table.items():
        if not isinstance(url, str):
            raise InvalidSettingError(f"buckets.{name}", "...", "is no URL")
    return {name: _expand(f"buckets.{name}", url) for name, url in table.items()}


def choose_public_url() -> str:
    """What stands before the paths of links: by `CONVEYOR_PUBLIC_URL`, else by `pyproject.toml`, else nothing."""
    found = os.environ.get("CONVEYOR_PUBLIC_URL") or _read_file()[1].get("public_url", "")
    if not isinstance(found, str) or (found and not found.startswith(("http://", "https://"))):
        raise InvalidSettingError("public_url", found, "is no URL", hint="as in `https://example.com`")
    return found.rstrip("/")


def choose_encrypted(given: Sequence[str] | None = None) -> Sequence[str]:
    """Patterns of the queues whose payloads are encrypted: by Python, else by `CONVEYOR_ENCRYPTED` with commas between
    them, else by `pyproject.toml`. `InvalidSettingError`."""
    if given is None and "CONVEYOR_ENCRYPTED" in os.environ:
        given = [each.strip() for each in os.environ["CONVEYOR_ENCRYPTED"].split(",") if each.strip()]
    patterns = _read_file()[1].get("encrypted", []) if given is None else given
    if isinstance(patterns, str) or not all(isinstance(each, str) and each for each in patterns):
        raise InvalidSettingError("encrypted", patterns, "is no list of patterns", hint='`["orders", "mail-*"]`')
    return tuple(patterns)


def choose_retention() -> Mapping[str, str]:
    """`[tool.conveyor.retention]`, as in `jobs = "7d"` and `"jobs/emails" = "1d"`."""
    return _table(_read_file()[1], "retention")


def make_folder(path: Path) -> None:
    """With those above it, as far as they are missing: for nobody but their owner."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def environment_of(routing: Routing) -> Mapping[str, str]:
    """What makes a child process choose the same, whatever becomes of the file."""
    return {
        "CONVEYOR_URL": routing.url,
        "CONVEYOR_STORES": msgspec.json.encode(routing.stores).decode(),
        "CONVEYOR_ROUTES": msgspec.json.encode(routing.routes).decode(),
    }


def _read_settings() -> Routing:
    folder, table = _read_file()
    url = os.environ.get("CONVEYOR_URL") or None
    if url is None and "url" in table:
        url = _read_url(folder, "url", table["url"])
    stores = _from_environment("CONVEYOR_STORES")
    if stores is None:
        given = _table(table, "stores")
        stores = {name: _read_url(folder, f"stores.{name}", each) for name, each in given.items()}
    routes = _from_environment("CONVEYOR_ROUTES")
    return Routing(url=url or DEFAULT_URL, stores=stores, routes=_table(table, "routes") if routes is None else routes)


def _read_file() -> tuple[Path, dict[str, Any]]:
    """`[tool.conveyor]` of the nearest `pyproject.toml`, upward from here; and its folder."""
    here = Path.cwd()
    found = next((path for folder in (here, *here.parents) if (path := folder / _FILE).is_file()), None)
    text = found.read_bytes() if found is not None else b""
    if found is None or b"conveyor" not in text:
        return here, {}
    import tomllib  # most have no table

    try:
        table = tomllib.loads(text.decode()).get("tool", {}).get("conveyor", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettingError(_FILE, str(found), f"cannot be read: {error}") from error
    return found.parent, table


def _table(table: dict[str, Any], name: str) -> dict[str, str]:
    given = table.get(name, {})
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        problem = "is no table of names and text"
        raise InvalidSettingError(f"tool.conveyor.{name}", "...", problem)  # it may hold secrets
    return given


def _from_environment(name: str) -> dict[str, str] | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError as error:  # the value may hold a password
        hint = """a JSON object of names and text, as in '{"media": "sqlite:///media.db"}'"""
        raise InvalidSettingError(name, "...", f"cannot be read: {error}", hint=hint) from None


def _read_url(folder: Path, name: str, value: object) -> str:
    """A URL of the file: relative paths are relative to it."""
    if not isinstance(value, str):
        raise InvalidSettingError(name, value, "is no URL")
    url = _expand(name, value)
    path = unquote(url.removeprefix(_SQLITE))
    if not url.startswith(_SQLITE) or path.startswith("/"):
        return url
    return _SQLITE + quote(str(folder / path))


def _expand(name: str, value: str) -> str:
    """With `${VARIABLE}` as the environment has it: secrets do not stand in files."""

    def read(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise InvalidSettingError(name, shown_url(value), f"the environment has no `{match[1]}`")
        return found

    return _VARIABLE.sub(read, value)
