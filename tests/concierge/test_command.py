"""The command line: looking into the queue, accounts, the trail; and the whole as one command, with its sandbox."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import msgspec
import pytest
from click.testing import CliRunner

from concierge.proving import wait_until
from conveyor_apps.concierge.cli import main
from conveyor_apps.concierge.trial import running_sandbox
from kit.postgres import free_port


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("CONVEYOR_URL", f"sqlite:///{tmp_path}/conveyor.db")
    monkeypatch.setenv("CONCIERGE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return CliRunner()


def test_the_queue_is_tried_and_looked_into(run: CliRunner) -> None:
    tried = run.invoke(main, ["queue", "test"])
    assert tried.exit_code == 0, tried.output
    types = re.findall(r"type=(\w+)", tried.output)
    assert types == ["email_send", "sms_send", "export_generation", "cleanup"]
    status = run.invoke(main, ["queue", "status"])
    assert "healthy: 2 messages, 2 queued" in status.output
    assert '"maxRetries": 5' in run.invoke(main, ["queue", "status", "--json"]).output


def test_accounts_are_made_once_and_with_a_long_password(run: CliRunner) -> None:
    arguments = ["users", "add", "mia", "--role", "clinician", "--address", "mia@example.com", "--password"]
    assert "12 to" in run.invoke(main, [*arguments, "short"]).output
    assert run.invoke(main, [*arguments, "long enough for this"]).exit_code == 0
    assert "already" in run.invoke(main, [*arguments, "long enough for this"]).output
    verified = run.invoke(main, ["verify"])
    assert verified.exit_code == 0
    assert msgspec.json.decode(verified.output)["records"] == 1


def test_what_is_held_and_what_is_not_sent_is_said_on_the_command_line(run: CliRunner) -> None:
    for group, place in (
        ("holds", ["place", "recipient", "mia@example.com", "--reason", "case 12"]),
        ("suppressions", ["add", "email", "Mia@example.com", "--note", "by phone"]),
    ):
        id = run.invoke(main, [group, *place]).output.strip()
        listed = msgspec.json.decode(run.invoke(main, [group, "list"]).output)
        assert [(each["id"], each["placedBy"], each["liftedAt"]) for each in listed] == [(id, "cli", None)]
        assert run.invoke(main, [group, "lift", id]).exit_code == 0
        again = run.invoke(main, [group, "lift", id])
        assert (again.exit_code, again.output[:10]) == (2, "concierge:")
    refused = run.invoke(main, ["holds", "place", "all", "everything", "--reason", "x"])
    assert "a hold on all names nothing" in refused.output


def test_a_token_is_made_for_those_who_are_there(run: CliRunner) -> None:
    arguments = ["users", "add", "mia", "--role", "admin", "--address", "mia@example.com", "--password", "long enough for this"]
    assert run.invoke(main, arguments).exit_code == 0
    assert run.invoke(main, ["users", "token", "mia"]).output.startswith("cge_")
    assert run.invoke(main, ["users", "list"]).output.split() == ["mia", "admin", "mia@example.com"]
    assert "12 to" in run.invoke(main, ["users", "password", "mia", "--password", "short"]).output
    assert run.invoke(main, ["users", "password", "mia", "--password", "another long one"]).exit_code == 0
    assert "no user `ann`" in run.invoke(main, ["users", "token", "ann"]).output
    database = Path(os.environ["CONVEYOR_URL"].removeprefix("sqlite:///"))
    assert database.stat().st_mode & 0o077 == 0  # names and texts lie in it


def test_help_shows_how_to_begin() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    assert "concierge queue demo" in shown
    assert "SMTP_URL" in shown


def test_one_command_runs_it_with_a_sandbox_and_people(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CONVEYOR_", "CONCIERGE_", "SMTP_"))},
        "CONVEYOR_TOKEN": "test-token-" + "0" * 32,
    }  # fmt: skip
    log = tmp_path / "log"
    command = [sys.executable, "-m", "conveyor_apps.concierge", "serve", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True
        )  # fmt: skip
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            wait_until(lambda: process.poll() is not None or _is_up(client), seconds=90)
            password = re.findall(r"admin +(\S+)", log.read_text())[0]
            login = {"name": "admin", "password": password}
            assert client.post("/api/login", json=login).status_code == 200
            own = {"origin": f"http://127.0.0.1:{port}"}
            tried = client.post("/debug/enqueue", headers=own).json()["job"]["messageId"]
            wait_until(lambda: client.get(f"/api/messages/{tried}").json()["state"] == "sent", seconds=60)
            assert "smtp" in running_sandbox(tmp_path / "concierge-data")["SMTP_URL"]  # for `queue consumer` beside it
            sandbox = re.findall(r"(http\S+)/inbox", log.read_text())[0]
            assert "test@example.com" in httpx2.get(f"{sandbox}/inbox", trust_env=False, timeout=60).text
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()[-2_000:]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert running_sandbox(tmp_path / "concierge-data") == {}


def _is_up(client: httpx2.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx2.HTTPError:
        return False
