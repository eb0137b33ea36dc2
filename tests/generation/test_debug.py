"""The document's debug commands, against a running server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from conveyor.cli import main as conveyor
from conveyor_apps.generation import nextjs
from conveyor_apps.generation.secret import KEPT, kept_secret
from cutmv.kit import wait_until
from generation.nextjs import receiving_beside
from generation.served import Served


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        conveyor(list(arguments))
    assert not ended.value.code, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_webhook_endpoint_is_tried_with_a_signed_event(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with receiving_beside() as site:
        environment = {"NEXTJS_URL": site.url, "GENERATION_WEBHOOK_SECRET": site.secret}
        assert wait_until(lambda: nextjs.main(["test"], environment) == 0)
        assert "200" in capsys.readouterr().out
        assert nextjs.main(["test"], {**environment, "GENERATION_WEBHOOK_SECRET": "whsec_" + "QUJD" * 8}) == 1
        assert "401" in capsys.readouterr().out
        body = {"event": "generation.completed", "jobId": "test", "generationId": "test", "userId": "test",
                "status": "completed", "timestamp": "2024-01-01T00:00:00Z"}  # fmt: skip
        unsigned = httpx2.post(f"{site.url}/api/webhooks/worker", json=body, trust_env=False, timeout=60)
        assert unsigned.status_code == 401, "the document's own call, which anybody could make"
        [event] = site.events
        assert event.event.generation_id == "test"
        kept_secret(tmp_path)
        (tmp_path / KEPT).write_text(site.secret)
        assert nextjs.main(["test"], {"NEXTJS_URL": site.url, "GENERATION_DATA": str(tmp_path)}) == 0, "as it is kept"
    assert nextjs.main(["test"], environment) == 1, "nobody listens"
    assert "NEXTJS_URL" in capsys.readouterr().err
    assert nextjs.main(["tset"], environment) == 2
    assert nextjs.main(["test"], {"GENERATION_DATA": str(tmp_path / "none")}) == 2
    assert "GENERATION_WEBHOOK_SECRET" in capsys.readouterr().err


def test_a_job_is_followed_by_conveyors_commands(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Not processing? Not told? Stuck? README.md says which command tells."""
    made = served.create("#refused, to be looked into", user="debug")
    ended = served.finished(made["id"])
    store = ["--url", str(served.environment["CONVEYOR_URL"])]
    explained = said_by(capsys, "jobs", "explain", ended["jobId"], *store)
    assert "guidelines" in explained
    queue = json.loads(said_by(capsys, "queues", "info", "generation-queue", "--json", *store))
    assert queue["consumer"], "somebody works on it"
    sent = json.loads(said_by(capsys, "webhooks", "deliveries", "--json", *store))
    assert {each["event"] for each in sent} >= {"generation.started", "generation.failed"}
    shown = said_by(capsys, "webhooks", "show", sent[0]["id"], *store)
    assert "/api/webhooks/worker" in shown
    for words in ("[GENERATION] Starting generation", "[GENERATION] Generation failed", "[WEBHOOK] Sending webhook"):
        assert any(words in line and ended["id"] in line for line in served.log.splitlines()), words


@pytest.mark.campaign
def test_the_log_is_followed_as_by_wrangler_tail(served: Served, tmp_path: Path) -> None:
    with (tmp_path / "tail").open("w+") as said:
        tail = subprocess.Popen(
            [sys.executable, "-m", "conveyor", "tail", "--server", served.url], stdout=said, stderr=said,
            env={**served.environment},
        )  # fmt: skip
        try:
            wait_until(
                lambda: served.create("a paper boat") and "generation" in (tmp_path / "tail").read_text(), every=1
            )
        finally:
            tail.terminate()
            tail.wait(20)
