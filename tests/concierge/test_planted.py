"""50 planted names and addresses go through everything that can happen to a message. Of logs, metrics, traces, Sentry's
events, alerts and what is shown of the queue, none holds any of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
import httpx2
import pytest

from concierge.planted import ADDRESSES, FIRST, LAST, NAMES, PLANTED, deed_of, open_clumsy
from conveyor.server.asgi import make_asgi
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import SYSTEM
from conveyor_apps.concierge.jobs import EmailJob, MessageJob, SmsJob
from conveyor_apps.concierge.people import NewUser
from conveyor_apps.concierge.room import Room
from conveyor_apps.concierge.safety import open_safety
from conveyor_apps.concierge.settings import read_settings
from conveyor_apps.concierge.wiring import Concierge, Parts, build_concierge
from conveyor_apps.concierge.words import Role, Urgency
from kit.dsn import Dsn

pytestmark = pytest.mark.anyio

APP = Path(__file__).with_name("planted.py")
WORDS = [*PLANTED, *FIRST, *LAST, *(each.lstrip("+") for each in ADDRESSES)]
TOKEN = "t" * 40
PASSWORD = "correct horse battery"  # noqa: S105  # of nobody
ENDS = {"arrives": "sent", "refused": "bounced", "fails once": "sent", "crashes": "failed", "never": "failed"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sentry() -> Iterator[Dsn]:
    with Dsn() as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path, sentry: Dsn, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    given = {
        "CONVEYOR_URL": f"sqlite:///{tmp_path}/conveyor.db", "CONCIERGE_DATA": str(tmp_path / "data"),
        "SENTRY_DSN": sentry.dsn, "CONCIERGE_ALERT_WEBHOOK": sentry.hook, "CONVEYOR_LOG": "json",
        "PYTHONWARNINGS": "always",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CONVEYOR_SECRETS_KEY", raising=False)
    return {**os.environ, **given}


def found_in(text: str) -> list[str]:
    """The planted words that stand there, in whatever letters."""
    return [each for each in WORDS if re.search(re.escape(each), text, re.IGNORECASE)]


def job_of(number: int) -> MessageJob:
    name, address = NAMES[number], ADDRESSES[number]
    id, content = f"m-{deed_of(number).replace(' ', '_')}-{number}", f"Dear {name} ({address}), we see you at 9."
    if address.startswith("+"):
        return SmsJob(message_id=id, recipient=address, content=content, priority=Urgency.HIGH)
    subject = f"For {name}"
    return EmailJob(message_id=id, recipient=address, subject=subject, content=content, priority=Urgency.HIGH)


@contextlib.asynccontextmanager
async def worker(environment: dict[str, str], out: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A real one; what it says goes into a file."""
    with out.open("wb") as file:
        command = [sys.executable, "-m", "conveyor", "work", f"{APP}:app"]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 30)
            finally:
                process.kill()
                process.wait()


async def state_of(room: Room, job: MessageJob) -> str:
    message = await room.messages.find(job.message_id)
    return "" if message is None else message.state


async def until_all_is_over(room: Room, jobs: Sequence[MessageJob], process: subprocess.Popen[bytes]) -> None:
    wanted = [ENDS[deed_of(number)] for number in range(len(jobs))]
    with anyio.fail_after(90):
        while [await state_of(room, job) for job in jobs] != wanted:
            assert process.poll() is None, "the worker is gone"
            await anyio.sleep(0.05)


async def shown_of(concierge: Concierge) -> str:
    """All that the queue's dashboard and API, and concierge's own, show to operators."""
    people = concierge.doorway.room().people
    await people.add(NewUser(name="admin", role=Role.ADMIN, address="admin@clinic.test", password=PASSWORD))
    own = await people.add_token("admin", "tests", SYSTEM, days=1)
    texts: list[str] = []
    site = httpx2.ASGITransport(app=make_asgi(concierge.app, token=TOKEN))
    async with httpx2.AsyncClient(transport=site, base_url="http://127.0.0.1") as client:
        for path in (
            "/queues/message-delivery/messages", "/queues/dlq/messages", "/dead-letters/dlq", "/queues", "/audit", "/jobs"
        ):
            answer = await client.get(f"/api/v1{path}", headers={"authorization": f"Bearer {TOKEN}"})
            texts.append(f"{path} {answer.status_code} {answer.text}")
        for path in ("/metrics", "/debug/queue-status"):
            answer = await client.get(path, headers={"authorization": f"Bearer {own}"})
            assert answer.status_code == 200, answer.text
            texts.append(answer.text)
    return "\n".join(texts)


async def test_none_of_50_planted_names_and_addresses_gets_out(
    environment: dict[str, str], sentry: Dsn, tmp_path: Path
) -> None:
    parts = Parts(providers=open_clumsy, safety=open_safety)
    concierge = build_concierge(read_settings(environment), parts=parts)
    log = tmp_path / "worker.log"
    jobs = [job_of(number) for number in range(len(NAMES))]
    async with concierge.app:
        room = concierge.doorway.room()
        await room.producer.enqueue_batch(jobs)
        late = EmailJob(message_id="m-later-1", recipient=ADDRESSES[1], subject=NAMES[1], content=f"Dear {NAMES[1]}")
        await room.producer.enqueue_send_later(late, datetime.fromtimestamp(clock.now_ms() / 1000 + 3_600, UTC))
        async with worker(environment, log) as process:
            await until_all_is_over(room, jobs, process)
            await sentry.until("transaction", len(jobs))
        alerts = await room.safety.look(room.facts, await room.providers.status())
        shown = await shown_of(concierge)
    logs = log.read_text()

    assert found_in(logs) == []
    assert found_in(shown) == []
    assert [found_in(each.decode()) for each in sentry.raw if found_in(each.decode())] == []

    assert all(job.message_id in logs for job in jobs)  # it looked where things are said
    for event in ("message.sent", "message.refused", "message.failed", "thread.crashed", '"logger":"somelib"'):
        assert event in logs
    assert "RuntimeError, planted.py:" in logs
    assert 'concierge_job_seconds_count{type="email_send"}' in shown
    assert "sealed_with" in shown
    assert {alert.name for alert in alerts} >= {"dead_letters", "failures"}  # type: ignore[attr-defined]  # of the safety that is kept in
    assert {each["alert"] for each in sentry.posts} >= {"dead_letters", "failures"}
    crashes = [each for each in sentry.of("event") if "exception" in each]
    assert {each["exception"]["values"][-1]["type"] for each in crashes} >= {"RuntimeError"}
    assert all(each["exception"]["values"][-1]["stacktrace"]["frames"] for each in crashes)
    steps = [crumb["message"] for crumb in crashes[0]["breadcrumbs"]["values"]]
    assert steps == ["job.begun", "message.sending"]
    assert crashes[0]["contexts"]["job"]["message"].startswith("m-crashes-")
    traces = sentry.of("transaction")
    assert {each["contexts"]["trace"]["op"] for each in traces} == {"queue.process"}
    assert len(traces) >= len(jobs)
    assert {each["status"] for each in sentry.of("check_in")} >= {"in_progress", "ok"}
