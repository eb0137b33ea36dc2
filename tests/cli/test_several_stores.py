"""The verbs where settings name several stores: what they show, what they refuse, and `--url` for one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Terminal

TABLE = """
[tool.conveyor]
url = "sqlite:///conveyor.db"
[tool.conveyor.stores]
media = "sqlite:///media.db"
[tool.conveyor.routes]
"video-*" = "media"
"""


@pytest.fixture(autouse=True)
def settings(terminal: Terminal) -> Path:
    """Two files, with a queue in each."""
    path = terminal.folder / "pyproject.toml"
    path.write_text(TABLE, encoding="utf-8")
    for queue in ("mail", "video-1"):
        terminal.ok("queues", "create", queue)
    return path


def test_queues_are_listed_with_their_store(terminal: Terminal) -> None:
    rows = terminal.ok("queues", "list", "--json").json
    assert [(row["name"], row["store"]) for row in rows] == [("mail", "home"), ("video-1", "media")]
    assert "STORE" in terminal.ok("queues", "list").out
    assert "STORE" not in terminal.ok("queues", "list", "--url", "sqlite:///media.db").out


def test_a_message_goes_where_its_queue_lies_and_url_means_one_store(terminal: Terminal) -> None:
    terminal.ok("messages", "send", "video-1", "1")
    assert len(terminal.ok("messages", "peek", "video-1", "--json").json) == 1
    assert len(terminal.ok("messages", "peek", "video-1", "--json", "--url", "sqlite:///media.db").json) == 1
    alone = terminal.run("messages", "peek", "video-1", "--url", "sqlite:///conveyor.db")
    assert alone.code == 1 and "queue_not_found" in alone.err


def test_a_queue_whose_route_has_changed_is_shown_and_the_doctor_says_what_to_do(terminal: Terminal, settings: Path) -> None:
    terminal.ok("messages", "send", "mail", "1")
    settings.write_text(TABLE + '"mail" = "media"\n', encoding="utf-8")
    rows = terminal.ok("queues", "list", "--json").json
    assert (rows[0]["name"], rows[0]["store"], rows[0]["routed_to"]) == ("mail", "home", "media")
    assert "ROUTED TO" in terminal.ok("queues", "list").out
    report = terminal.ok("doctor", "--json").json
    verdicts = {each["name"]: {check["check"]: check for check in each["checks"]} for each in report["stores"]}
    stray = verdicts["home"]["routes"]
    assert stray["verdict"] == "warning" and "`mail` (1 messages, routed to `media`)" in stray["found"]
    assert "CONVEYOR_ROUTES" in stray["hint"] and verdicts["media"]["routes"]["verdict"] == "ok"
    assert report["verdict"] == "warning"


def test_the_doctor_examines_each_store_and_of_one_url_only_that(terminal: Terminal) -> None:
    said = terminal.ok("doctor").out
    assert "home: " in said and "media: " in said
    one = terminal.ok("doctor", "--json", "--url", "sqlite:///media.db").json
    assert one["store"] == "media.db" and "stores" not in one


def test_a_store_that_is_away_hides_no_other_s_queues(terminal: Terminal) -> None:
    (terminal.folder / "media.db").unlink()
    asked = terminal.run("queues", "list")
    assert asked.code == 1 and "media.db" in asked.err, "a question makes no store"
    (terminal.folder / "media.db").write_bytes(b"no database at all, but a file of that name" * 100)
    asked = terminal.run("queues", "list", "--json")
    assert [row["name"] for row in asked.json] == ["mail"]
    assert asked.code == 1 and "store_away" in asked.err


def test_a_queue_is_sent_to_while_another_store_is_away(terminal: Terminal) -> None:
    (terminal.folder / "media.db").write_bytes(b"no database at all, but a file of that name" * 100)
    terminal.ok("messages", "send", "mail", "1")
    assert terminal.run("messages", "send", "video-1", "1").code == 1
