"""`conveyor queues consumer` with wrangler's verbs, flags and spellings, and a consumer by hand."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, OwnerInfo

if TYPE_CHECKING:
    from .conftest import Terminal

WORKER = "--batch-size 30 --batch-timeout 4 --message-retries 2 --dead-letter-queue jobs-dlq --max-concurrency 3 --retry-delay-secs 1"
HTTP = "--batch-size 20 --message-retries 5 --dead-letter-queue jobs-dlq --visibility-timeout-secs 60 --retry-delay-secs 9"


@pytest.mark.parametrize("spelling", ["consumer", "consumer worker"])
def test_wranglers_worker_consumer(terminal: Terminal, spelling: str) -> None:
    terminal.ok("queues", "create", "jobs")
    said = terminal.ok("queues", *spelling.split(), "add", "jobs", "jsworker", *WORKER.split())
    assert said.out == "workers of `jsworker` take the messages of `jobs`: run `conveyor work MODULE:APP`\n"
    [row] = terminal.ok("queues", *spelling.split(), "list", "jobs", "--json").json
    assert row == {
        "queue": "jobs", "type": "worker", "script": "jsworker", "batch_size": 30, "max_retries": 2, "retry_delay": "1s",
        "dead_letter_queue": "jobs-dlq", "batch_timeout": "4s", "max_concurrency": 3, "dispatch": "queue",
    }  # fmt: skip
    assert "jobs-dlq" in [each["name"] for each in terminal.ok("queues", "list", "--json").json]
    assert terminal.ok("queues", "consumer", "http", "list", "jobs", "--json").json == []
    removed = terminal.ok("queues", *spelling.split(), "remove", "jobs", "jsworker", "--json")
    assert removed.json == {"queue": "jobs", "removed": "jsworker"}
    assert "`conveyor queues consumer" in terminal.ok("queues", *spelling.split(), "list", "jobs").out


def test_wranglers_pull_consumer(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "jobs")
    row = terminal.ok("queues", "consumer", "http", "add", "jobs", *HTTP.split(), "--json").json
    assert row == {
        "queue": "jobs", "type": "http_pull", "script": None, "batch_size": 20, "max_retries": 5, "retry_delay": "9s",
        "dead_letter_queue": "jobs-dlq", "visibility_timeout": "1m",
    }  # fmt: skip
    assert terminal.ok("queues", "consumer", "list", "jobs", "--json").json == [row]
    assert "http_pull" in terminal.ok("queues", "consumer", "http", "list", "jobs").out
    assert terminal.ok("queues", "info", "jobs", "--json").json["consumer"] == "http_pull"
    terminal.ok("queues", "consumer", "http", "remove", "jobs")
    assert terminal.ok("queues", "consumer", "list", "jobs", "--json").json == []


def test_terms_that_are_not_named_stay_as_they_are(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "jobs")
    terminal.ok("queues", "consumer", "add", "jobs", "shop", "--batch-size", "7", "--retry-delay", "5m")
    changed = terminal.ok("queues", "consumer", "update", "jobs", "--max-concurrency", "2", "--json").json
    assert (changed["batch_size"], changed["retry_delay"], changed["max_concurrency"]) == (7, "5m", 2)
    assert terminal.run("queues", "consumer", "update", "jobs").code == 2


def test_a_mode_of_dispatch_and_the_way_back(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "jobs")
    terminal.ok("queues", "consumer", "add", "jobs", "shop", "--dispatch", "immediate")
    terms = ["--dispatch", "cron", "--dispatch-messages", "5", "--dispatch-cron", "*/2 * * * *"]
    changed = terminal.ok("queues", "consumer", "update", "jobs", *terms, "--json").json
    assert changed["dispatch"] == "cron: 5 at */2 * * * *"
    assert terminal.ok("queues", "info", "jobs", "--json").json["dispatch"] == "cron: 5 at */2 * * * *"
    refused = terminal.run("queues", "consumer", "update", "jobs", "--dispatch-cron", "61 * * * *")
    assert (refused.code, "minute `61` is out of range" in refused.err) == (1, True)
    assert terminal.run("queues", "consumer", "update", "jobs", "--dispatch", "soon").code == 2
    back = terminal.ok("queues", "consumer", "update", "jobs", "--dispatch", "queue", "--json").json
    assert back["dispatch"] == "queue"


def test_one_consumer_a_queue(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "jobs")
    terminal.ok("queues", "consumer", "add", "jobs", "shop")
    answer = terminal.run("queues", "consumer", "http", "add", "jobs")
    assert (answer.code, "[consumer_conflict]" in answer.err) == (1, True)
    assert "hint: `conveyor queues consumer remove jobs shop` first" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("consumer", "remove", "jobs", "shop"), "no worker consumer `shop` exists for queue `jobs`"),
        (("consumer", "http", "remove", "jobs"), "no http_pull consumer exists for queue `jobs`"),
        (("consumer", "update", "jobs", "--batch-size", "1"), "no consumer exists for queue `jobs`"),
        (("consumer", "add", "jops", "shop"), "did you mean `jobs`?"),
        (("consumer", "add", "jobs", "not a name"), "`script`"),
    ],
)
def test_what_is_not_there_is_said_with_the_next_command(
    terminal: Terminal, arguments: tuple[str, ...], words: str
) -> None:
    terminal.ok("queues", "create", "jobs")
    answer = terminal.run("queues", *arguments)
    assert (answer.code, words in answer.err) == (1, True), answer.err
    assert "\n  hint: " in answer.err


@pytest.mark.parametrize(
    "option", ["--batch-size 0", "--batch-size 101", "--message-retries 101", "--batch-timeout 61", "--retry-delay-secs 2d"]
)
def test_terms_out_of_bounds_are_wrong_usage(terminal: Terminal, option: str) -> None:
    terminal.ok("queues", "create", "jobs")
    assert terminal.run("queues", "consumer", "add", "jobs", "shop", *option.split()).code == 2


# A consumer by hand


def pullable(terminal: Terminal, *bodies: str) -> None:
    terminal.ok("queues", "create", "jobs")
    terminal.ok("queues", "consumer", "http", "add", "jobs", "--visibility-timeout-secs", "60")
    for body in bodies:
        terminal.ok("messages", "send", "jobs", body)


def test_messages_are_pulled_and_acknowledged(terminal: Terminal) -> None:
    pullable(terminal, '{"n": 1}', "2", "3")
    first, second = terminal.ok("messages", "pull", "jobs", "--batch-size", "2", "--json").json
    assert (first["body"], first["attempts"], second["body"]) == ({"n": 1}, 1, 2)
    assert terminal.ok("messages", "pull", "jobs", "--json").json[0]["body"] == 3
    assert terminal.ok("messages", "pull", "jobs").out == "nothing to pull from `jobs` now\n"
    answer = terminal.ok("messages", "ack", "jobs", first["lease_id"], second["lease_id"])
    assert answer.out == "2 are done\n"
    assert terminal.ok("queues", "info", "jobs", "--json").json["messages"] == 1


def test_messages_are_tried_again(terminal: Terminal) -> None:
    pullable(terminal, "1", "2")
    now, later = (each["lease_id"] for each in terminal.ok("messages", "pull", "jobs", "--json").json)
    assert terminal.ok("messages", "retry", "jobs", now).out == "1 will be tried again\n"
    assert terminal.ok("messages", "retry", "jobs", later, "--delay", "5m", "--json").json == {"retryCount": 1, "warnings": {}}
    again = terminal.ok("messages", "pull", "jobs", "--json").json
    assert [(each["body"], each["attempts"]) for each in again] == [(1, 2)]


def test_a_lease_that_is_not_there_is_a_warning_and_one(terminal: Terminal) -> None:
    pullable(terminal, "1")
    [row] = terminal.ok("messages", "pull", "jobs", "--json").json
    terminal.ok("messages", "retry", "jobs", row["lease_id"])
    answer = terminal.run("messages", "retry", "jobs", row["lease_id"], "nonsense", "--json")
    assert answer.code == 1
    assert answer.json == {
        "retryCount": 0,
        "warnings": {"nonsense": "no such lease", row["lease_id"]: "the lease is not current any more"},
    }


def test_what_is_not_to_be_pulled_says_how_it_could_be(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "jobs")
    answer = terminal.run("messages", "pull", "jobs")
    assert (answer.code, "hint: `conveyor queues consumer http add jobs`" in answer.err) == (1, True)


# Dead letters


def dead(terminal: Terminal, *bodies: str) -> None:
    terminal.ok("queues", "create", "jobs")

    async def die(store: Store) -> None:
        settings = ConsumerSettings(script="shop", dead_letter_queue="jobs-dlq")
        await store.declare_consumer("jobs", settings)
        owner = await store.register_owner(OwnerInfo(app="shop", host=store.host, pid=1, supervisor_pid=1))
        claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=9))
        reasons = ("spoilt", "timeout")
        said = [
            Settlement(each.seq, each.claim, Action.REJECT, None, reasons[number % 2])
            for number, each in enumerate(claimed.leases)
        ]
        await store.settle(owner, said)

    for body in bodies:
        terminal.ok("messages", "send", "jobs", body)
    terminal.store(die)


def test_a_dead_letter_is_mended_and_sent_back(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    dead(terminal, '{"n": 1}')
    [row] = terminal.ok("dlq", "list", "jobs", "--json").json
    assert "holds 7 bytes now\n" in terminal.ok("dlq", "edit", "jobs-dlq", row["id"], '{"n":2}').out
    assert terminal.ok("dlq", "show", "jobs", row["id"], "--json").json["body"] == {"n": 2}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"n": 3}')))
    facts = terminal.ok("dlq", "edit", "jobs", row["id"][:31], "-", "--redrive", "--json").json
    assert facts == {"queue": "jobs-dlq", "id": row["id"], "bytes": 7, "redriven": 1}
    [back] = terminal.ok("messages", "peek", "jobs", "--json").json
    assert back["body"] == {"n": 3}


def test_an_edit_that_is_no_json_is_wrong_usage_and_changes_nothing(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(terminal, "1")
    [row] = terminal.ok("dlq", "list", "jobs", "--json").json
    assert terminal.run("dlq", "edit", "jobs", row["id"], "{").code == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert terminal.run("dlq", "edit", "jobs", row["id"]).code == 2
    assert terminal.run("dlq", "edit", "jobs", "ff" * 16, "2").code == 1
    assert terminal.ok("dlq", "show", "jobs", row["id"], "--json").json["body"] == 1
    terminal.ok("dlq", "edit", "jobs", row["id"], "as text", "--content-type", "text")
    assert terminal.ok("dlq", "show", "jobs", row["id"], "--json").json["body"] == "as text"


def test_dead_letters_go_back_by_reason(terminal: Terminal) -> None:
    dead(terminal, "1", "2", "3")
    assert terminal.run("dlq", "redrive", "jobs", "--id", "0", "--reason", "timeout").code == 2
    assert terminal.ok("dlq", "redrive", "jobs", "--origin", "elsewhere", "--json").json["redriven"] == 0
    assert terminal.ok("dlq", "redrive", "jobs", "--reason", "timeout", "--json").json["redriven"] == 1
    assert terminal.ok("dlq", "redrive", "jobs").out == "2 messages went back to where they came from\n"


# What helps


@pytest.mark.parametrize(("word", "meant"), [("quques", "queues"), ("message", "messages"), ("doktor", "doctor")])
def test_a_verb_that_is_not_there_names_the_nearest(terminal: Terminal, word: str, meant: str) -> None:
    answer = terminal.run(word)
    assert (answer.code, f"Did you mean '{meant}'?" in answer.err) == (2, True)


def test_a_queue_that_is_not_there_names_the_nearest(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "orders")
    answer = terminal.run("queues", "info", "ordres")
    assert "hint: did you mean `orders`? `conveyor queues list` shows those there are" in answer.err
    assert "`conveyor queues create zzz` makes it" in terminal.run("messages", "send", "zzz", "1").err


def test_pages_of_queues(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "orders")
    assert len(terminal.ok("queues", "list", "--page", "1", "--json").json) == 1
    assert terminal.ok("queues", "list", "--page", "2", "--json").json == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_each_shell(terminal: Terminal, shell: str) -> None:
    script = terminal.ok("completion", shell).out
    assert "_CONVEYOR_COMPLETE" in script
    assert "conveyor" in script


def test_bash_completes_verbs_and_queues(terminal: Terminal) -> None:
    terminal.ok("queues", "create", "orders")
    terminal.ok("queues", "create", "offers")
    assert complete(terminal, "conveyor queues pau") == ["plain,pause-delivery"]
    assert complete(terminal, "conveyor queues info or") == ["plain,orders"]
    assert complete(terminal, "conveyor messages send o") == ["plain,offers", "plain,orders"]
    assert complete(terminal, "conveyor queues info --url sqlite:///none.db o") == []


def complete(terminal: Terminal, line: str) -> list[str]:
    """As the shell asks for the last word."""
    code = "import sys; sys.argv = ['conveyor']\nfrom conveyor.cli import main\nmain()"
    environment = {"_CONVEYOR_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=terminal.folder,
        env=environment | {"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()
