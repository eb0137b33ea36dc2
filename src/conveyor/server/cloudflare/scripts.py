"""Which Workers there are, to Cloudflare's wire: the app that is served, every app that consumes a queue or has
schedules in the store, and drafts, which `wrangler secret put` makes so that a secret can be there before its Worker.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from pathlib import Path
from typing import Final

import msgspec

from conveyor.model.errors import VersionConflictError
from conveyor.server.cloudflare.dialect import Refusal
from conveyor.server.endpoint import Call
from conveyor.store.chosen import choose_files, choose_stores

SCRIPTS: Final = "worker"
"""The kind of documents that drafts are."""
NO_SCRIPT: Final = 10_007
NO_SERVICE: Final = 10_090
NOT_HOSTED: Final = 10_021
"""What wrangler prints as the reason why an upload failed."""
_NAME: Final = re.compile(r"[a-zA-Z0-9_](?:[a-zA-Z0-9_.:-]{0,61}[a-zA-Z0-9_])?")


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A Worker, as the wire shows it."""

    name: str
    created_at: int
    is_draft: bool

    @property
    def tag(self) -> str:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"conveyor:worker:{self.name}").hex

    @property
    def version(self) -> str:
        """Of the one version there is: that which its processes run."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"conveyor:version:{self.name}"))

    @property
    def deployment(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"conveyor:deployment:{self.name}"))


async def list_scripts(call: Call) -> list[Script]:
    """All, by name."""
    now = call.store.clock.now_ms()
    found = {each.name: (each.created_at, True) for each in await call.store.list_documents(SCRIPTS, limit=1_000)}
    if call.app is not None:
        found[call.app.name] = (found.get(call.app.name, (now, True))[0], False)
    for queue in await call.store.list_queues():
        if queue.consumer is not None and queue.consumer.script:
            since = found.get(queue.consumer.script, (now, True))[0]
            found[queue.consumer.script] = (min(since, queue.created_at), False)
    for schedule in await call.store.list_schedules():
        found[schedule.draft.app] = (found.get(schedule.draft.app, (now, True))[0], False)
    return [Script(name=name, created_at=since, is_draft=draft) for name, (since, draft) in sorted(found.items())]


async def find_script(call: Call, *, number: int = NO_SCRIPT) -> Script:
    """The one in the path, by its app's name or by that in the app's wrangler file. `Refusal` with the code that
    wrangler knows."""
    name = call.path["script"]
    if call.app is not None and name == call.app.worker.name:  # of the app's own wrangler file
        name = call.app.name
    for each in await list_scripts(call):
        if each.name == name:
            return each
    words = "This Worker does not exist on your account."
    raise Refusal(number, "workers.api.error.service_not_found" if number == NO_SERVICE else words, status=404)


async def make_draft(call: Call) -> Script:
    """So that it can have secrets."""
    name = call.path["script"]
    if _NAME.fullmatch(name) is None:
        raise Refusal(10_016, f"invalid Worker name: {name[:64]!r}")
    with contextlib.suppress(VersionConflictError):
        await call.store.put_document(SCRIPTS, name, b"{}", version=0)
    return await find_script(call)


def refuse_code(script: str) -> Refusal:
    """To whoever uploads code."""
    return Refusal(
        NOT_HOSTED,
        f"Conveyor does not host Workers, so `{script}` was not uploaded. Its queues, consumers, crons, KV, D1, R2 and "
        "secrets are here: run the Python app beside them with `conveyor serve MODULE:APP`; it reads this file too",
    )


def files_of(call: Call) -> Path:
    """Where this store keeps what it keeps as files."""
    return call.app.bindings.folder() if call.app is not None else choose_files(choose_stores().url)
