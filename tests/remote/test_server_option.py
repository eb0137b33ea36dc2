"""The command line against another conveyor: `--server http://...`, with the token of CONVEYOR_TOKEN."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conveyor.cli import main
from conveyor.remote import tokens as far_tokens
from conveyor.remote import trail, values

from .test_conveyors import TOKEN, Process

SHOP = """
from conveyor import Conveyor, CronRun
app = Conveyor("shop")

@app.cron("0 9 * * *")
async def daily(run: CronRun) -> None: ...
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store that is served without an app."""
    folder = tmp_path_factory.mktemp("far")
    process = Process("serve", "--port", "0", cwd=folder, CONVEYOR_URL=f"sqlite:///{folder}/far.db")
    try:
        yield process.until(r"serving (http://\S+)")
    finally:
        process.stop()


Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(server, monkeypatch, capsys)


def runner(server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("CONVEYOR_TOKEN", TOKEN)

    def run(*arguments: str) -> tuple[int, Any, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--server", server, "--json"])
        said = capsys.readouterr()
        with contextlib.suppress(msgspec.MsgspecError):
            return int(ended.value.code or 0), msgspec.json.decode(said.out), said.err
        return int(ended.value.code or 0), said.out, said.err

    return run


def ok(run: Run, *arguments: str) -> Any:
    code, answer, problem = run(*arguments)
    assert (code, problem) == (0, "")
    return answer


def test_a_queue_lives_its_life_over_http(run: Run, tmp_path: Path) -> None:
    facts = ok(run, "queues", "create", "letters", "--delivery-delay-secs", "0", "--message-retention-period", "7d")
    assert (facts["name"], facts["message_retention_period"]) == ("letters", "7d")
    assert ok(run, "queues", "update", "letters", "--delivery-delay", "5s")["delivery_delay"] == "5s"
    ok(run, "queues", "update", "letters", "--delivery-delay", "0")
    row = ok(run, "queues", "consumer", "http", "add", "letters", "--message-retries", "5", "--visibility-timeout", "1m")
    assert (row["type"], row["max_retries"], row["visibility_timeout"]) == ("http_pull", 5, "1m")
    assert ok(run, "queues", "consumer", "update", "letters", "--batch-size", "7")["batch_size"] == 7
    ok(run, "messages", "send", "letters", '{"to": "Ada"}')
    ok(run, "messages", "send", "letters", "good morning", "--content-type", "text")
    assert [each["body"] for each in ok(run, "messages", "peek", "letters")] == [{"to": "Ada"}, "good morning"]
    first, second = ok(run, "messages", "pull", "letters")
    assert (first["body"], second["body"], first["attempts"]) == ({"to": "Ada"}, "good morning", 1)
    assert ok(run, "messages", "ack", "letters", first["lease_id"]) == {"ackCount": 1, "warnings": {}}
    assert ok(run, "messages", "retry", "letters", second["lease_id"])["retryCount"] == 1
    code, answer, _ = run("messages", "ack", "letters", "nonsense")
    assert (code, list(answer["warnings"])) == (1, ["nonsense"])
    assert [each["attempts"] for each in ok(run, "messages", "pull", "letters")] == [2]
    ok(run, "queues", "pause-delivery", "letters")
    assert ok(run, "queues", "info", "letters")["paused"] is True
    ok(run, "queues", "resume-delivery", "letters")
    assert ok(run, "queues", "list")[0]["messages"] == 1
    assert ok(run, "queues", "purge", "letters", "--force")["purged"] == 1
    ok(run, "queues", "consumer", "http", "remove", "letters")
    ok(run, "queues", "consumer", "add", "letters", "post-office", "--max-concurrency", "2")
    assert ok(run, "queues", "consumer", "list", "letters")[0]["script"] == "post-office"
    ok(run, "queues", "delete", "letters")
    assert ok(run, "queues", "list") == []
    assert list(tmp_path.iterdir()) == []  # no store of ours was made


def test_dead_letters_are_mended_and_sent_back(run: Run) -> None:
    ok(run, "queues", "create", "jobs")
    ok(run, "queues", "consumer", "http", "add", "jobs", "--message-retries", "0", "--dead-letter-queue", "jobs-dlq")
    for body in ('{"n": 1}', '{"n": 2}', '{"n": 3}'):
        ok(run, "messages", "send", "jobs", body)
    leases = [each["lease_id"] for each in ok(run, "messages", "pull", "jobs")]
    ok(run, "messages", "retry", "jobs", *leases)
    letters = ok(run, "dlq", "list", "jobs")
    assert [(each["body"], each["origin_queue"], each["reason"]) for each in letters] == [
        ({"n": number}, "jobs", "retries") for number in (1, 2, 3)
    ]
    first, second, _ = (each["id"] for each in letters)
    assert ok(run, "dlq", "edit", "jobs", first, '{"n": 10}', "--redrive")["redriven"] == 1
    assert ok(run, "dlq", "redrive", "jobs", "--id", second)["redriven"] == 1
    assert ok(run, "dlq", "redrive", "jobs", "--reason", "timeout")["redriven"] == 0
    assert ok(run, "dlq", "redrive", "jobs")["redriven"] == 1
    assert ok(run, "dlq", "list", "jobs") == []
    assert sorted(each["body"]["n"] for each in ok(run, "messages", "peek", "jobs")) == [2, 3, 10]
    looks = {(each["action"], each["target"], each["via"]) for each in ok(run, "audit", "list", "--action", "*.peek")}
    assert looks >= {("message.peek", "jobs", "http"), ("message.peek", "jobs-dlq", "http")}
    assert ("dead_letter.peek", f"jobs-dlq/{first}", "http") in looks


def test_refusals_come_in_our_words(run: Run) -> None:
    ok(run, "queues", "create", "parcels")
    ok(run, "messages", "send", "parcels", "1")
    for arguments, code in (
        (("queues", "create", "parcels"), "queue_exists"),
        (("queues", "info", "parcel"), "queue_not_found"),
        (("queues", "create", "mine", "--max-backlog-messages", "5"), "store_unsupported"),
        (("kv", "get", "A", "b"), "not_found"),
        (("messages", "send", "parcels", "1", "--key", "k"), "invalid_message"),
        (("cron", "pause", "daily"), "schedule_not_found"),
        (("dlq", "redrive", "nowhere"), "queue_not_found"),
    ):
        status, _, problem = run(*arguments)
        assert (status, msgspec.json.decode(problem)["error"]["code"]) == (1, code)
    assert "did you mean `parcels`?" in run("queues", "info", "parcel")[2]


def test_the_doctor_asks_whether_the_api_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, report, _ = run("doctor")
    assert (code, report["checks"][0]["check"], report["verdict"]) == (0, "api", "ok")
    monkeypatch.setenv("CONVEYOR_TOKEN", "cvy_nobody-knows-this-one")
    code, report, _ = run("doctor")
    assert (code, report["verdict"], "conveyor tokens" in report["checks"][0]["hint"]) == (1, "problem", True)


def test_a_wrong_token_says_which_rights_it_takes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_TOKEN", "cvy_nobody-knows-this-one")
    status, _, problem = run("queues", "list")
    error = msgspec.json.decode(problem)["error"]
    assert (status, error["code"]) == (1, "queue_unavailable")
    assert "conveyor tokens" in error["hint"]
    assert "nobody-knows" not in problem


def test_without_a_token_its_name_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVEYOR_TOKEN")
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN", raising=False)
    status, _, problem = run("queues", "list")
    assert (status, "export CONVEYOR_TOKEN=" in problem) == (1, True)


def test_named_values_over_http(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(run, "kv", "put", "SETTINGS", "greeting/of the day?", "good morning", "--ttl", "1d")
    ok(run, "kv", "put", "SETTINGS", "other", "x")
    found = ok(run, "kv", "get", "SETTINGS", "greeting/of the day?")
    assert (found["value"], found["expires_at"] is not None) == ("good morning", True)
    monkeypatch.setattr(values, "PAGE_ROWS", 2)
    for number in range(5):
        ok(run, "kv", "put", "MANY", f"k{number}", "v")
    assert [each["key"] for each in ok(run, "kv", "list", "SETTINGS")] == ["greeting/of the day?", "other"]
    assert [each["key"] for each in ok(run, "kv", "list", "SETTINGS", "--prefix", "ot")] == ["other"]
    assert [each["key"] for each in ok(run, "kv", "list", "MANY")] == ["k0", "k1", "k2", "k3", "k4"]
    assert [each["key"] for each in ok(run, "kv", "list", "MANY", "--limit", "3")] == ["k0", "k1", "k2"]
    ok(run, "kv", "delete", "SETTINGS", "other")
    code, _, problem = run("kv", "delete", "SETTINGS", "other")
    assert code == 1
    assert "has no key" in problem


def test_schedules_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    process = Process("serve", "shop:app", "--port", "0", cwd=tmp_path, CONVEYOR_URL=f"sqlite:///{tmp_path}/far.db")
    try:
        run = runner(process.until(r"serving (http://\S+)"), monkeypatch, capsys)
        [daily] = ok(run, "cron", "list")
        assert (daily["name"], daily["expression"], daily["app"], daily["paused"]) == ("daily", "0 9 * * *", "shop", False)
        ok(run, "cron", "pause", "daily")
        assert ok(run, "cron", "list")[0]["paused"] is True
        assert ok(run, "cron", "resume", "daily")["next_tick"] == ok(run, "cron", "list")[0]["next_tick"]
        assert ok(run, "cron", "history", "daily") == []
        code, _, problem = run("cron", "pause", "nightly")
        assert code == 1
        assert "nightly" in problem
    finally:
        process.stop()


def test_a_subscription_over_http(run: Run) -> None:
    ok(run, "queues", "create", "heard")
    events = ("--source", "kv", "--events", "namespace.created")
    made = ok(run, "queues", "subscription", "create", "heard", *events)
    assert ok(run, "queues", "subscription", "list", "heard") == [made]
    one = ("heard", "--id", made["id"])
    assert ok(run, "queues", "subscription", "update", *one, "--enabled", "false") == made | {"enabled": False}
    assert ok(run, "queues", "rename", "heard", "told") == {"renamed": "heard", "name": "told"}
    one = ("told", "--id", made["id"])
    assert ok(run, "queues", "subscription", "list", "told") == [made | {"enabled": False, "queue": "told"}]
    ok(run, "queues", "create", "heard")
    code, _, problem = run("queues", "rename", "heard", "told")
    assert (code, "queue `told` exists already" in problem) == (1, True), problem
    ok(run, "queues", "subscription", "delete", *one, "--force")
    assert ok(run, "queues", "subscription", "list", "told") == []


def test_tokens_over_http(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ok(run, "tokens", "create", "checkout", "--send", "--queue", "orders-*", "--expires", "90d")
    assert (made["name"], made["rights"], made["queues"]) == ("checkout", ["send"], ["orders-*"])
    assert made["token"].startswith(f"cvy_{made['id']}") and made["expires_at"] is not None
    new = ok(run, "tokens", "rotate", made["id"], "--overlap", "1h")
    monkeypatch.setattr(far_tokens, "PAGE_ROWS", 1)
    listed = {each["id"]: each for each in ok(run, "tokens", "list")}
    assert {made["id"], new["id"]} <= set(listed)
    assert all("token" not in each and each["created_by"] == "environment" for each in listed.values())
    assert ok(run, "tokens", "revoke", new["id"], "--force")["name"] == "checkout"
    assert new["id"] not in {each["id"] for each in ok(run, "tokens", "list")}
    for arguments in (("revoke", new["id"], "--force"), ("rotate", "no/such")):
        code, _, problem = run("tokens", *arguments)
        assert (code, msgspec.json.decode(problem)["error"]["code"]) == (1, "not_found")
    code, _, problem = run("tokens", "create", "x")
    assert code == 1 and made["token"] not in problem
    monkeypatch.setenv("CONVEYOR_TOKEN", made["token"])
    for arguments in (("tokens", "list"), ("audit", "list"), ("audit", "verify")):
        code, _, problem = run(*arguments)
        assert (code, "`admin` for tokens" in problem, made["token"] in problem) == (1, True, False)


def test_the_trail_over_http(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tracked-1", "tracked-2", "tracked-3"):
        ok(run, "queues", "create", name)
    ok(run, "kv", "put", "SETTINGS", "tracked", "a value")
    ok(run, "queues", "pause-delivery", "tracked-2")
    monkeypatch.setattr(trail, "PAGE_ROWS", 2)
    found = ok(run, "audit", "list", "--target", "tracked-*", "--action", "queue.create")
    assert [(each["target"], each["via"], each["result"]) for each in found] == [
        (f"tracked-{number}", "http", "ok") for number in (3, 2, 1)
    ]
    older = ok(run, "audit", "list", "--target", "tracked-*", "--before", str(found[1]["number"]), "--since", "1h")
    assert [each["target"] for each in older] == ["tracked-1"]
    assert len(ok(run, "audit", "list", "--limit", "3")) == 3
    [kept] = ok(run, "audit", "list", "--action", "kv.put", "--target", "*tracked")
    assert "a value" not in msgspec.json.encode(kept).decode()
    seen = ok(run, "audit", "verify")
    assert (seen["faults"], seen["records"] >= 5) == ([], True)
    assert ok(run, "audit", "verify", "--head", seen["head"])["faults"] == []
    number = seen["head"].partition(":")[0]
    code, answer, _ = run("audit", "verify", "--head", f"{number}:{'0' * 64}")
    assert code == 1 and answer["faults"]
