"""Each verb on a store of its own: what it does, what it says to people and to programs, and how it refuses."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from conveyor import Conveyor
from conveyor.alarms import make_ring
from conveyor.model.ids import IdSource
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, OwnerInfo, ScheduleDraft
from conveyor.testing.factories import a_draft, a_firing

if TYPE_CHECKING:
    from .conftest import Terminal

VERBS = [
    *("demo", "serve", "work", "queues", "messages", "dlq", "jobs", "cron", "alarms", "webhooks", "kv", "doctor", "backup"),
    *("restore", "migrate"),
]


def test_help_is_fast_and_names_every_verb() -> None:
    code = "import sys; sys.argv = ['conveyor', '--help']\nfrom conveyor.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    heavy = "print([name for name in ('apsw', 'rich', 'starlette', 'uvicorn', 'structlog') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + heavy], capture_output=True, text=True, check=True)
    assert all(f"  {verb}" in done.stdout for verb in VERBS)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_a_sentence(terminal: Terminal, verb: str) -> None:
    answer = terminal.ok(verb, "--help")
    assert answer.out.startswith("Usage: ")
    assert len(answer.out.splitlines()) > 6


@pytest.mark.parametrize("arguments", [["quques"], ["queues", "fly"], ["queues", "info"], ["queues", "list", "--fast"]])
def test_wrong_usage_is_two(terminal: Terminal, arguments: list[str]) -> None:
    assert terminal.run(*arguments).code == 2


def test_questions_do_not_make_a_store(terminal: Terminal) -> None:
    answer = terminal.run("queues", "list")
    assert answer.code == 1
    assert "no store at `conveyor.db` [store_unsupported]\n  hint: " in answer.err
    assert not terminal.path.exists()


def test_url_names_another_store(terminal: Terminal) -> None:
    url = f"sqlite:///{terminal.folder}/other.db"
    terminal.ok("queues", "create", "letters", "--url", url)
    assert [each["name"] for each in terminal.ok("queues", "list", "--json", "--url", url).json] == ["letters"]
    answer = terminal.run("queues", "list", "--url", "memory://")
    assert (answer.code, "one process only" in answer.err) == (1, True)
    answer = terminal.run("queues", "create", "a", "--url", f"sqlite:///{terminal.folder}/none/a.db")
    assert (answer.code, "mkdir -p" in answer.err) == (1, True)


# Queues


def test_queues_are_made_changed_and_deleted(terminal: Terminal) -> None:
    assert "made queue `letters`" in terminal.ok("queues", "create", "letters", "--delivery-delay", "5m").out
    assert terminal.run("queues", "create", "letters").err.startswith(
        "conveyor: queue `letters` exists already [queue_exists]"
    )
    facts = terminal.ok(
        "queues", "update", "letters", "--message-retention-period-secs", "120", "--max-backlog-messages", "9", "--json"
    ).json
    assert (facts["delivery_delay"], facts["message_retention_period"], facts["max_backlog_messages"]) == (
        "5m",
        "2m",
        9,
    )
    assert "delivery delay            5m" in terminal.ok("queues", "info", "letters").out
    terminal.ok("queues", "delete", "letters")
    assert terminal.ok("queues", "list").out == "no queues yet; `conveyor queues create NAME` makes one\n"


def test_a_queue_is_renamed(terminal: Terminal) -> None:
    for name in ("letters", "taken"):
        terminal.ok("queues", "create", name)
    terminal.ok("messages", "send", "letters", "1")
    subscription = terminal.ok(
        "queues", "subscription", "create", "letters", "--source", "kv", "--events", "namespace.created", "--json"
    ).json
    assert "queue `letters` is `mail` now" in terminal.ok("queues", "rename", "letters", "mail").out
    assert terminal.ok("queues", "info", "mail", "--json").json["messages"] == 1
    assert [each["id"] for each in terminal.ok("queues", "subscription", "list", "mail", "--json").json] == [subscription["id"]]
    refused = terminal.run("messages", "send", "letters", "1")
    assert (refused.code, "it was renamed, and is `mail` now" in refused.err) == (1, True)
    taken = terminal.run("queues", "rename", "mail", "taken")
    assert (taken.code, "queue `taken` exists already [queue_exists]" in taken.err) == (1, True)
    assert terminal.ok("queues", "rename", "mail", "post", "--json").json == {"renamed": "mail", "name": "post"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--delivery-delay", "2d"),
        ("--delivery-delay", "nan"),
        ("--delivery-delay", "-1"),
        ("--message-retention-period", "10s"),
        ("--max-backlog-messages", "many"),
    ],
)
def test_bad_setting_is_wrong_usage(terminal: Terminal, option: str, value: str) -> None:
    assert terminal.run("queues", "create", "letters", option, value).code == 2


def test_setting_out_of_bounds_is_refused_by_name(terminal: Terminal) -> None:
    answer = terminal.run("queues", "create", "letters", "--max-message-bytes", "0")
    assert (answer.code, "`max_message_bytes`" in answer.err) == (1, True)


def test_update_without_a_change_is_wrong_usage(terminal: Terminal) -> None:
    assert terminal.run("queues", "update", "letters").code == 2


def test_delivery_is_paused_and_resumed(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "letters")
    assert terminal.ok("queues", "pause-delivery", "letters", "--json").json == {"queue": "letters", "paused": True}
    assert terminal.ok("queues", "info", "letters", "--json").json["paused"] is True
    terminal.ok("queues", "resume-delivery", "letters")
    assert terminal.ok("queues", "list", "--json").json[0]["paused"] is False


@pytest.mark.parametrize("verb", ["purge", "delete"])
def test_what_cannot_be_undone_asks_first(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    terminal.ok("queues", "create", "letters")
    terminal.ok("messages", "send", "letters", "1")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    answer = terminal.run("queues", verb, "letters")
    assert (answer.code, "give --force" in answer.err) == (2, True)
    assert terminal.ok("queues", "info", "letters", "--json").json["messages"] == 1
    terminal.ok("queues", verb, "letters", "--force")


def test_unknown_queue_is_told_to_programs_too(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "letters")
    answer = terminal.run("queues", "info", "nope", "--json")
    assert answer.code == 1
    assert msgspec.json.decode(answer.err)["error"]["code"] == "queue_not_found"


# Messages


def test_messages_are_sent_and_peeked(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "letters")
    sent = terminal.ok("messages", "send", "letters", '{"n": 1}', "--delay", "5m", "--priority", "8", "--json").json
    terminal.ok("messages", "send", "letters", "good morning\x1b[2J", "--content-type", "text")
    first, second = terminal.ok("messages", "peek", "letters", "--json").json
    assert (first["id"], first["body"], first["priority"], first["state"]) == (sent["id"], {"n": 1}, 8, "ready")
    assert second["content_type"] == "text"
    plain = terminal.ok("messages", "peek", "letters").out
    assert "\x1b" not in plain
    assert plain.splitlines()[0].split() == ["ID", "STATE", "ATTEMPTS", "READY", "AT", "BODY"]


def test_body_may_come_from_stdin(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.ok("queues", "create", "letters")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1, 2]")))
    terminal.ok("messages", "send", "letters", "-")
    assert terminal.ok("messages", "peek", "letters", "--json").json[0]["body"] == [1, 2]


def test_body_that_is_no_json_is_wrong_usage(terminal: Terminal) -> None:
    answer = terminal.run("messages", "send", "letters", "good morning")
    assert (answer.code, "--content-type text" in answer.err) == (2, True)


def test_body_too_large_is_refused(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "letters")
    answer = terminal.run("messages", "send", "letters", '"' + "x" * 128_000 + '"')
    assert (answer.code, "[body_too_large]" in answer.err) == (1, True)


# Dead letters


async def bury(store: Store) -> None:
    """Three letters, all rejected."""
    await store.declare_consumer("letters", ConsumerSettings(script="shop", dead_letter_queue="letters-dlq"))
    owner = await store.register_owner(OwnerInfo(app="shop", host="here", pid=1, supervisor_pid=1))
    await store.append([a_draft(queue="letters", body=b"%d" % number) for number in range(3)])
    claimed = await store.claim(ClaimRequest(queue="letters", owner=owner, limit=9))
    await store.settle(
        owner,
        [
            Settlement(each.seq, each.claim, Action.REJECT, reason="torn", error="OSError: torn")
            for each in claimed.leases
        ],
    )


def test_dead_letters_are_listed_shown_and_redriven(terminal: Terminal) -> None:
    terminal.store(bury)
    assert terminal.ok("dlq", "list", "--json").json == [
        {"dead_letter_queue": "letters-dlq", "messages": 3, "of": "letters"}
    ]
    rows = terminal.ok("dlq", "list", "letters-dlq", "--json").json
    assert [(each["body"], each["reason"], each["origin_queue"]) for each in rows] == [
        (n, "torn", "letters") for n in range(3)
    ]
    assert terminal.ok("dlq", "list", "letters", "--json").json == rows, "the queue's name will do"
    shown = terminal.ok("dlq", "show", "letters-dlq", rows[1]["id"])
    assert "OSError: torn" in shown.out
    answer = terminal.ok("dlq", "redrive", "letters-dlq", "--id", rows[1]["id"], "--json").json
    assert answer == {"queue": "letters-dlq", "redriven": 1}
    assert terminal.ok("messages", "peek", "letters", "--json").json[0]["body"] == 1
    assert "2 messages went back" in terminal.ok("dlq", "redrive", "letters-dlq").out
    assert terminal.ok("dlq", "list", "letters-dlq").out == "no dead letters in `letters-dlq`\n"


def test_unknown_dead_letter_moves_nothing(terminal: Terminal) -> None:
    terminal.store(bury)
    known = terminal.ok("dlq", "list", "letters-dlq", "--json").json[0]["id"]
    answer = terminal.run("dlq", "redrive", "letters-dlq", "--id", known, "--id", "0" * 32)
    assert (answer.code, "[not_found]" in answer.err) == (1, True)
    assert len(terminal.ok("dlq", "list", "letters-dlq", "--json").json) == 3


def test_dead_letters_are_purged_by_force(terminal: Terminal) -> None:
    terminal.store(bury)
    assert terminal.ok("dlq", "purge", "letters-dlq", "--force", "--json").json == {"queue": "letters-dlq", "purged": 3}
    assert terminal.ok("dlq", "list", "letters-dlq", "--json").json == []


# Schedules


async def declare_nightly(store: Store) -> None:
    await store.declare_consumer("inbox", ConsumerSettings(script="shop"))
    draft = ScheduleDraft(
        name="nightly", app="shop", queue="inbox", expression="0 3 * * *", syntax="unix", timezone="Europe/Berlin",
        misfire="latest", overlap="allow", jitter_ms=0,
    )  # fmt: skip
    await store.declare_schedule(draft, 1_000)
    await store.fire(a_firing(message=a_draft(queue="inbox")))
    await store.begin_run("nightly", 1_000)
    await store.finish_run("nightly", 1_000, error="OSError: dark")


def test_schedules_and_their_runs_are_listed(terminal: Terminal) -> None:
    terminal.store(declare_nightly)
    [row] = terminal.ok("cron", "list", "--json").json
    assert (row["name"], row["expression"], row["last_run"], row["next_tick"]) == (
        "nightly", "0 3 * * *", "failed", "1970-01-01T00:00:02Z",
    )  # fmt: skip
    [run] = terminal.ok("cron", "history", "nightly", "--json").json
    assert (run["status"], run["error"], run["trigger"]) == ("failed", "OSError: dark", "schedule")
    assert "OSError: dark" in terminal.ok("cron", "history", "nightly").out
    assert terminal.run("cron", "history", "daily").code == 1


def test_schedule_is_paused_and_resumed_at_its_next_tick(terminal: Terminal) -> None:
    terminal.store(declare_nightly)
    terminal.ok("cron", "pause", "nightly")
    assert terminal.ok("cron", "list", "--json").json[0]["paused"] is True
    resumed = terminal.ok("cron", "resume", "nightly", "--json").json
    assert resumed["next_tick"][11:] in ("01:00:00Z", "02:00:00Z"), "three o'clock in Berlin"
    assert terminal.run("cron", "resume", "daily").code == 1


def test_alarms_are_listed_shown_armed_again_and_cancelled(terminal: Terminal) -> None:
    async def set_some(store: Store) -> None:
        await store.create_queue("shop-alarms", QueueSettings())
        for name in ("egg", "tea"):
            ring = make_ring(IdSource(store.clock), "shop-alarms", name)
            await store.set_alarm(name, store.clock.now_ms() + 3_600_000, ring)
        await store.purge("shop-alarms")
        ring = make_ring(IdSource(store.clock), "shop-alarms", "cake")
        await store.set_alarm("cake", 1_893_456_000_000, ring)

    terminal.store(set_some)
    rows = terminal.ok("alarms", "list", "--json").json
    assert [(row["name"], row["state"], row["next"]) for row in rows] == [
        ("cake", "scheduled", "2030-01-01T00:00:00Z"), ("egg", "parked", None), ("tea", "parked", None),
    ]
    assert [row["name"] for row in terminal.ok("alarms", "list", "--parked", "--after", "egg", "--json").json] == ["tea"]
    assert terminal.ok("alarms", "show", "cake", "--json").json == rows[0]
    assert "2030-01-01" in terminal.ok("alarms", "show", "cake").out
    armed = terminal.ok("alarms", "rearm", "tea", "--after", "2h", "--json").json
    assert (armed["state"], armed["attempts"]) == ("scheduled", 0)
    assert "not parked" in terminal.run("alarms", "rearm", "tea").err
    assert "is cancelled" in terminal.ok("alarms", "cancel", "tea").out
    for verb in ("show", "rearm", "cancel"):
        answer = terminal.run("alarms", verb, "tea")
        assert (answer.code, "[alarm_not_found]" in answer.err) == (1, True)


def test_webhooks_are_looked_after(terminal: Terminal) -> None:
    url = "https://hooks.example/in"

    async def send(store: Store) -> str:
        app = Conveyor("shop", url=f"sqlite:///{terminal.path}")
        async with app:
            return await app.webhooks.send(url, "order.paid", {"n": 1})

    delivery = terminal.store(send)
    [endpoint] = terminal.ok("webhooks", "list", "--json").json
    name = endpoint["id"]
    assert (endpoint["url"], endpoint["events"], endpoint["app"]) == (url, "*", "shop")
    secret = terminal.ok("webhooks", "secret", name).out.strip()
    assert secret.startswith("whsec_")
    assert terminal.ok("webhooks", "rotate", name, "--overlap", "1h", "--json").json["secret"] != secret
    assert terminal.ok("webhooks", "disable", name, "--json").json["disabled"] == "by hand"
    assert terminal.ok("webhooks", "enable", name, "--json").json == endpoint
    [row] = terminal.ok("webhooks", "deliveries", "--state", "pending", "--endpoint", name, "--json").json
    assert (row["id"], row["event"], row["state"], row["tries"]) == (delivery, "order.paid", "pending", 0)
    assert terminal.ok("webhooks", "show", delivery, "--json").json["payload"]["data"] == {"n": 1}
    assert "goes out again" in terminal.ok("webhooks", "resend", delivery).out
    assert "is gone" in terminal.ok("webhooks", "remove", name).out
    assert "[endpoint_not_found]" in terminal.run("webhooks", "secret", name).err
    assert "[delivery_not_found]" in terminal.run("webhooks", "show", "msg_1").err


def test_trigger_fires_the_app_s_schedule(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (terminal.folder / "triggered_shop.py").write_text("""
from conveyor import Conveyor, CronRun
app = Conveyor("shop")
@app.cron("@daily")
async def daily(run: CronRun) -> None: ...
""")
    run = terminal.ok("cron", "trigger", "triggered_shop:app", "daily", "--correlation-id", "order-66", "--json").json
    assert run == {"schedule": "daily", "correlation_id": "order-66"}
    assert terminal.ok("cron", "history", "daily", "--json").json[0]["trigger"] == "manual"
    answer = terminal.run("cron", "trigger", "triggered_shop:app", "weekly")
    assert (answer.code, "[schedule_not_found]" in answer.err) == (1, True)
    assert terminal.run("cron", "trigger", "no_such_shop:app", "daily").code == 1


# Values


def test_values_are_put_got_listed_and_deleted(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "any")
    (terminal.folder / "file").write_bytes(b"\x00\x01")
    assert "kept 5 bytes" in terminal.ok("kv", "put", "S", "a", "hello", "--ttl", "7d").out
    terminal.ok("kv", "put", "S", "b", "--path", str(terminal.folder / "file"))
    assert terminal.ok("kv", "get", "S", "a").out == "hello"
    assert terminal.ok("kv", "get", "S", "b").out == "\x00\x01"
    assert [each["key"] for each in terminal.ok("kv", "list", "S", "--json").json] == ["a", "b"]
    assert terminal.ok("kv", "list", "S", "--prefix", "b", "--json").json[0]["expires_at"] is None
    terminal.ok("kv", "delete", "S", "a")
    for verb in ("get", "delete"):
        answer = terminal.run("kv", verb, "S", "a")
        assert (answer.code, "[not_found]" in answer.err) == (1, True)
    assert terminal.run("kv", "put", "S", "a").code == 2
    assert terminal.run("kv", "put", "S", "a", "x", "--ttl", "soon").code == 2
    assert terminal.run("kv", "put", "S", "..", "x").code == 1


# Running


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["work", "shop:app", "--url", "memory://"], 1, "one process only"),
        (["work", "shop:app", "--url", "sqlite:////no/such/folder/a.db"], 1, "does not exist"),
        (["work", "shop:app", "--url", "mysql://me:secret@host/db"], 1, "no store is known"),
        (["work"], 2, "TARGET"),
        (["work", "shop:app", "--processes", "0"], 2, "processes"),
        (["serve", "shop:app", "--host", "0.0.0.0"], 1, "loopback"),
        (["serve", "shop:app", "--port", "99999"], 2, "port"),
    ],
)
def test_what_cannot_run_says_so_in_a_line(terminal: Terminal, arguments: list[str], code: int, words: str) -> None:
    answer = terminal.run(*arguments)
    assert answer.code == code
    assert words in answer.err
    assert "Traceback" not in answer.err
    assert "secret" not in answer.err


def test_port_from_the_environment_must_be_a_number(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_PORT", "http")
    assert terminal.run("serve", "shop:app").code == 2


def test_file_that_is_no_store_is_refused(terminal: Terminal) -> None:
    terminal.path.write_text("this is a letter, not a database " * 100)
    answer = terminal.run("queues", "list")
    assert (answer.code, "[store_corrupt]" in answer.err) == (1, True)


def test_folder_that_is_no_file_is_refused(terminal: Terminal) -> None:
    terminal.path.mkdir()
    answer = terminal.run("queues", "list")
    assert (answer.code, "is a folder" in answer.err) == (1, True)
