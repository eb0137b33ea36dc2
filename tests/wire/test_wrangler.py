"""The real wrangler drives queues and KV: every command that it has for them, and what it says when it is refused.

Each command is a start of Node, of a second or two. The default run has the life of a queue; consumers, subscriptions and
KV run in the long campaign, since test_traces.py sends what two releases of wrangler send for each of those commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

import pytest

from kit.wrangler import Wrangler

ID: Final = re.compile(r"\b[0-9a-f]{32}\b")
pytestmark = pytest.mark.timeout(600)  # on a first run wrangler is installed


@pytest.fixture
def run(wrangler: Callable[..., Wrangler]) -> Wrangler:
    return wrangler()


def test_it_knows_who_it_is(run: Wrangler) -> None:
    assert "You are logged in" in run.ok("whoami")


def test_a_queue_from_its_making_to_its_end(run: Wrangler) -> None:
    run.ok("queues", "create", "life", "--delivery-delay-secs", "5", "--message-retention-period-secs", "3600")
    assert "'life' is already taken" in run.fails("queues", "create", "life")
    assert "is invalid" in run.fails("queues", "create", "bad name!")
    assert "life" in run.ok("queues", "list")
    assert "life" not in run.ok("queues", "list", "--page", "2")
    assert "Queue Name: life" in run.ok("queues", "info", "life")
    run.ok("queues", "update", "life", "--delivery-delay-secs", "10", "--message-retention-period-secs", "7200")
    assert "Paused" in run.ok("queues", "pause-delivery", "life")
    assert "Resumed" in run.ok("queues", "resume-delivery", "life")
    assert "Purged" in run.ok("queues", "purge", "life", "--force")
    run.ok("queues", "delete", "life")
    missing = run.fails("queues", "delete", "life")
    assert 'Queue "life" does not exist. To create it, run: wrangler queues create life' in missing


@pytest.mark.campaign
def test_those_who_pull(run: Wrangler) -> None:
    run.ok("queues", "create", "pulled")
    options = (
        "--batch-size",
        "20",
        "--message-retries",
        "5",
        "--visibility-timeout-secs",
        "60",
        "--retry-delay-secs",
        "9",
    )
    run.ok("queues", "consumer", "http", "add", "pulled", *options, "--dead-letter-queue", "pulled-dlq")
    assert "11004" in run.fails("queues", "consumer", "http", "add", "pulled")
    [consumer] = json.loads(run.ok("queues", "consumer", "list", "pulled", "--json"))
    assert consumer["dead_letter_queue"] == "pulled-dlq"
    assert consumer["settings"] == {
        "batch_size": 20, "max_retries": 5, "visibility_timeout_ms": 60_000, "retry_delay": 9
    }  # fmt: skip
    assert "pulled-dlq" in run.ok("queues", "list"), "it is made where it is unknown"
    assert "pulled-dlq" in run.ok("queues", "consumer", "http", "list", "pulled")
    run.ok("queues", "consumer", "http", "remove", "pulled")
    assert "No http_pull consumer exists for queue pulled" in run.fails(
        "queues", "consumer", "http", "remove", "pulled"
    )


@pytest.mark.campaign
def test_workers(run: Wrangler) -> None:
    run.ok("queues", "create", "worked")
    options = ("--batch-size", "30", "--batch-timeout", "4", "--message-retries", "2", "--max-concurrency", "3")
    run.ok("queues", "consumer", "add", "worked", "wire", *options, "--retry-delay-secs", "1")
    assert "wire" in run.ok("queues", "consumer", "worker", "list", "worked")
    assert "11004" in run.fails("queues", "consumer", "worker", "add", "worked", "other")
    assert "No worker consumer 'other' exists" in run.fails("queues", "consumer", "worker", "remove", "worked", "other")
    run.ok("queues", "consumer", "remove", "worked", "wire")
    refused = run.fails("queues", "consumer", "worker", "add", "worked", "wire", "--batch-size", "500")
    assert "100127" in refused


@pytest.mark.campaign
def test_subscriptions(run: Wrangler) -> None:
    run.ok("queues", "create", "heard")
    events = ("--source", "kv", "--events", "namespace.created,namespace.deleted")
    made = run.ok("queues", "subscription", "create", "heard", *events, "--name", "all")
    [subscription] = ID.findall(made)
    assert "namespace.created" in run.ok("queues", "subscription", "list", "heard")
    one = ("heard", "--id", subscription)
    assert "Enabled:      Yes" in run.ok("queues", "subscription", "get", *one)
    run.ok("queues", "subscription", "update", *one, "--name", "some", "--enabled", "false")
    [found] = json.loads(run.ok("queues", "subscription", "list", "heard", "--json"))
    assert (found["name"], found["enabled"]) == ("some", False)
    run.ok("queues", "subscription", "delete", *one, "--force")
    assert "No subscription with this ID" in run.fails("queues", "subscription", "get", *one)


@pytest.mark.campaign
def test_kv(run: Wrangler) -> None:
    [namespace] = ID.findall(run.ok("kv", "namespace", "create", "CACHE"))
    taken = run.fails("kv", "namespace", "create", "CACHE")
    assert 'A KV namespace with the title "CACHE" already exists.' in taken
    if "--jurisdiction" in run.ok("kv", "namespace", "create", "--help"):  # 4.86 knows neither
        run.ok("kv", "namespace", "create", "ABROAD", "--jurisdiction", "eu")
        run.ok("kv", "namespace", "create", "QUICK", "--experimental-mode", "instant")
    there = ("--namespace-id", namespace, "--remote")
    run.ok("kv", "key", "put", "k1", "v1", *there)
    run.ok("kv", "key", "put", "dir/k 2?", "v2", "--ttl", "300", "--metadata", '{"a":1}', *there)
    assert run.ok("kv", "key", "get", "dir/k 2?", "--text", *there).strip() == "v2"
    assert "404" in run.fails("kv", "key", "get", "missing", *there)
    (run.folder / "pairs.json").write_text(
        json.dumps(
            [{"key": "b1", "value": "x"}, {"key": "b2", "value": "eHg=", "base64": True, "expiration_ttl": 120}]
        ),
        encoding="utf-8",
    )
    (run.folder / "keys.json").write_text('["b1", "b2"]', encoding="utf-8")
    run.ok("kv", "bulk", "put", "pairs.json", *there)
    assert '"b2": "xx"' in run.ok("kv", "bulk", "get", "keys.json", *there)
    found = json.loads(run.ok("kv", "key", "list", *there))
    assert [each["name"] for each in found] == ["b1", "b2", "dir/k 2?", "k1"]
    assert found[2]["metadata"] == {"a": 1}
    run.ok("kv", "bulk", "delete", "keys.json", "--force", *there)
    run.ok("kv", "namespace", "rename", "CACHE", "--new-name", "STORE")
    assert run.ok("kv", "key", "get", "k1", "--text", *there).strip() == "v1"
    run.ok("kv", "key", "delete", "k1", *there)
    assert "STORE" in run.ok("kv", "namespace", "list")
    run.ok("kv", "namespace", "delete", "--namespace-id", namespace, "--skip-confirmation")
    assert "STORE" not in run.ok("kv", "namespace", "list")


def test_a_wrong_token_is_told_so(wrangler: Callable[..., Wrangler]) -> None:
    said = wrangler("not-the-token-of-this-server-at-all").fails("queues", "list")
    assert "Authentication error" in said
    assert "10000" in said
