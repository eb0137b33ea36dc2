"""ETags and If-Match: an edit says which version it was made from, so that nobody's change is lost unseen."""

from __future__ import annotations

from conveyor.model.errors import VersionConflictError
from conveyor.model.refusals import VersionRequiredError
from conveyor.server.endpoint import Call


def etag(version: int | str) -> tuple[tuple[bytes, bytes], ...]:
    """The header of an answer."""
    return ((b"etag", f'"{version}"'.encode()),)


def wanted_version(call: Call, kind: str, name: str) -> int | None:
    """The version that an edit was made from; None: whichever is there (`If-Match: *`). `VersionRequiredError`, and
    `VersionConflictError` for what is no version of ours."""
    tag = wanted_tag(call, kind, name)
    if tag is None:
        return None
    if not tag.isascii() or not tag.isdecimal() or not 1 <= len(tag) <= 18:
        raise VersionConflictError(kind, name)
    return int(tag)


def wanted_tag(call: Call, kind: str, name: str) -> str | None:
    """As `wanted_version`, for versions that are no numbers."""
    value = (call.header("if-match") or "").strip()
    if not value:
        raise VersionRequiredError(kind, name)
    if value == "*":
        return None
    if len(value) < 2 or not (value.startswith('"') and value.endswith('"')):
        raise VersionConflictError(kind, name)
    return value[1:-1]
