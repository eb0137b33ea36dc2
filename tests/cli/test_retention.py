"""`conveyor retention`: said, shown, tried, and what would go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest

from conveyor.store.protocol import Store

from .test_jobs import fill

if TYPE_CHECKING:
    from .conftest import Terminal


def shown(terminal: Terminal) -> dict[tuple[str, str | None], tuple[str, str]]:
    found = terminal.ok("retention", "list", "--json").json
    return {(each["kind"], each["scope"]): (each["keep"], each["said_by"]) for each in found}


def test_what_is_usual_is_shown(terminal: Terminal) -> None:
    terminal.store(fill)
    assert shown(terminal) == {
        ("jobs", None): ("30d", "default"), ("deliveries", None): ("30d", "default"),
        ("runs", None): ("90d", "default"), ("audit", None): ("forever", "default"),
        ("dead_letters", "mails-dlq"): ("4d", "queue"),
    }  # fmt: skip


def test_policies_are_said_and_taken_back(terminal: Terminal) -> None:
    terminal.store(fill)
    terminal.ok("retention", "set", "jobs", "7d")
    terminal.ok("retention", "set", "jobs", "90m", "--queue", "mails")
    terminal.ok("retention", "set", "runs", "forever", "--schedule", "nightly")
    terminal.ok("retention", "set", "dead_letters", "2d", "--queue", "mails-dlq")
    now = shown(terminal)
    assert now["jobs", None] == ("7d", "operator") and now["jobs", "mails"] == ("90m", "operator")
    assert now["runs", "nightly"] == ("forever", "operator") and now["dead_letters", "mails-dlq"] == ("2d", "queue")
    assert terminal.store(lambda store: store.get_queue("mails-dlq")).settings.retention_ms == 2 * 86_400_000
    terminal.ok("retention", "clear", "jobs", "--queue", "mails")
    assert ("jobs", "mails") not in shown(terminal)
    assert terminal.run("retention", "clear", "jobs", "--queue", "mails").code == 1
    acts = terminal.ok("audit", "list", "--action", "retention.*", "--json").json
    assert [(each["target"], each["before"], each["after"]) for each in acts[:1]] == [
        ("jobs/mails", {"keep_ms": 5_400_000, "version": 1}, None)
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["set", "jobs", "1s"], 1),
        (["set", "jobs", "soon"], 1),
        (["set", "runs", "1h"], 1),
        (["set", "audit", "30d", "--queue", "mails"], 1),
        (["set", "dead_letters", "3d"], 1),
        (["set", "dead_letters", "3d", "--queue", "nope"], 1),
        (["set", "photos", "3d"], 2),
    ],
)
def test_what_cannot_be(terminal: Terminal, arguments: list[str], code: int) -> None:
    terminal.store(fill)
    assert terminal.run("retention", *arguments).code == code


def test_what_would_go_is_what_goes(terminal: Terminal) -> None:
    terminal.store(fill)
    assert terminal.ok("retention", "preview", "--json").json == []
    connection = apsw.Connection(str(terminal.path))
    connection.execute("UPDATE jobs SET ended_at = ended_at - 3600000, expires_at = expires_at - 3600000")
    connection.close()
    terminal.ok("retention", "set", "jobs", "30m", "--queue", "mails")
    [due] = terminal.ok("retention", "preview", "--json").json
    assert (due["kind"], due["scope"], due["keep"]) == ("jobs", "mails", "30m") and due["rows"] == 3

    async def sweep(store: Store) -> int:
        return (await store.sweep()).jobs + (await store.sweep()).jobs

    assert terminal.store(sweep) == due["rows"]
    assert terminal.ok("retention", "preview", "--json").json == []
