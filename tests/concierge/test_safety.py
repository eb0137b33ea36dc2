"""What concierge says: facts by a list of names, errors by kind and place, counts that survive, alerts told once."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conveyor.model.events import MessageFailed
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import PermanentError, Reason, SettingError, TemporaryError
from conveyor_apps.concierge.jobs import EmailJob
from conveyor_apps.concierge.records import MessageView
from conveyor_apps.concierge.safety.alerts import WebhookError
from conveyor_apps.concierge.safety.logs import Lines
from conveyor_apps.concierge.safety.opening import Watch
from conveyor_apps.concierge.safety.redaction import hiding, redact, safe_error, safe_facts
from conveyor_apps.concierge.safety.sentry import Sentry
from conveyor_apps.concierge.sensitive import sensitive_fields
from conveyor_apps.concierge.statements import all_statements
from conveyor_apps.tables import Database
from kit.dsn import Dsn

pytestmark = pytest.mark.anyio

JOB = EmailJob(message_id="m-1", recipient="mia@example.com", subject="Your visit", content="Dear Mia Quill, at nine.")
OPEN: list[dict[str, object]] = [{"name": "smtp", "circuit": "open"}]
FINE: dict[str, Any] = {"backlog": 0, "deadLetters": 0}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "concierge.db", all_statements(), clock.now_ms)
    await database.open()
    yield database
    await database.close()


async def fine() -> dict[str, Any]:
    return FINE


def test_what_is_sensitive_by_its_type_prints_as_stars() -> None:
    assert sensitive_fields(EmailJob) == {"recipient", "subject", "content"}
    assert sensitive_fields(MessageView) == {"recipient", "subject", "content"}
    shown = f"{JOB} {[JOB]!r} {JOB!s}"
    assert "mia" not in shown.casefold()
    assert "message_id='m-1', recipient=***" in shown


def test_facts_have_names_from_a_list_and_are_short_words() -> None:
    facts = {
        "message": "m-1", "attempt": 2, "seconds": 0.5, "recipient": "mia", "reason": "Mia Quill", "provider": "a@b.c",
        "state": None,
    }  # fmt: skip
    assert safe_facts(facts) == {"message": "m-1", "attempt": 2, "seconds": 0.5, "reason": "***", "provider": "***"}


def test_words_of_the_present_job_are_struck_out() -> None:
    with hiding(JOB):
        assert redact("550 MIA quill unknown, call +49 170 1234567") == "550 *** *** unknown, call ***"
        assert safe_facts({"reason": "quill"}) == {"reason": "***"}
        assert safe_facts({"message": "quill-1"}) == {"message": "***"}
        assert safe_error(TemporaryError("421 for Mia")) == "TemporaryError: 421 for ***"
    assert safe_facts({"reason": "quill"}) == {"reason": "quill"}
    assert redact("write to mia@example.com") == "write to ***"


def test_what_is_ours_is_said_whatever_the_message_says() -> None:
    said = io.StringIO()
    made = "msg-09aa484b887ac747f9bf"
    with hiding(msgspec.structs.replace(JOB, content=f"a message by email: sent, msg {made}")):
        Lines(lambda: said).say("message.sent", {"message": made, "channel": "email", "reason": "email"})
    line = msgspec.json.decode(said.getvalue())
    assert (line["event"], line["message"], line["channel"], line["reason"]) == ("message.sent", made, "email", "***")


def test_errors_are_their_kind_and_place() -> None:
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError("Mia Quill")
    shown = safe_error(raised.value)
    assert shown.startswith("RuntimeError, test_safety.py:")
    assert "Mia" not in shown
    assert safe_error(PermanentError(Reason.BLOCKED, "mia is blocked")) == "PermanentError: blocked"


def test_lines_of_others_say_where_and_not_what() -> None:
    out = io.StringIO()
    logger = logging.Logger("somelib")  # noqa: LOG001  # one that nobody else hears
    logger.addHandler(Lines(lambda: out))
    try:
        raise KeyError("Mia")
    except KeyError:
        logger.exception("no %s", "Mia")
    line = json.loads(out.getvalue())
    assert (line["logger"], line["level"]) == ("somelib", "error")
    assert line["error"].startswith("KeyError, test_safety.py:")
    assert "Mia" not in out.getvalue()


async def test_what_is_counted_is_summed_up_over_processes(database: Database) -> None:
    texts = []
    for _ in range(2):
        watch = Watch(Sentry(""), out=io.StringIO)
        await watch.open(database)
        watch.count("dead_letter", reason="retries")
        watch.count("dead_letter", reason="Mia Quill <mia@example.com>", recipient="mia")
        watch.observe("job", 0.25, type="email_send")
        texts.append(await watch.text(fine, OPEN))
        await watch.close()
    for line in (
        'concierge_dead_letter_total{reason="retries"} 2', 'concierge_dead_letter_total{reason="other"} 2',
        'concierge_job_seconds_count{type="email_send"} 2', 'concierge_job_seconds_sum{type="email_send"} 0.500000',
        "concierge_queue_up 1", "concierge_queue_depth 0", 'concierge_provider_up{provider="smtp"} 0',
        'concierge_messages{state="queued"} 0',
    ):  # fmt: skip
        assert line in texts[1].splitlines()
    assert "mia" not in texts[1].casefold()


async def test_alerts_are_told_when_they_begin_and_when_they_are_over(database: Database) -> None:
    with Dsn() as hook:
        watch = Watch(Sentry(hook.dsn), webhook=hook.hook, out=io.StringIO)
        await watch.open(database)
        assert [each.name for each in await watch.look(fine, OPEN)] == ["circuit.smtp"]
        assert await watch.look(fine, OPEN) == []
        assert 'concierge_alerts{alert="circuit.smtp"} 1' in await watch.text(fine, OPEN)
        assert [(each.name, each.is_over) for each in await watch.look(fine, [])] == [("circuit.smtp", True)]
        await hook.until("event", 2)
        await hook.until("check_in", 6)
        await watch.close()
        assert [(each["alert"], each["state"]) for each in hook.posts] == [
            ("circuit.smtp", "firing"), ("circuit.smtp", "resolved"),
        ]  # fmt: skip
        assert [each["message"] for each in hook.of("event")] == [
            "firing: smtp fails and is not called", "resolved: smtp fails and is not called",
        ]  # fmt: skip
        assert [each["status"] for each in hook.of("check_in")] == ["in_progress", "ok"] * 3


async def test_an_alert_that_could_not_be_told_is_told_again(database: Database) -> None:
    with Dsn() as gone:
        pass
    watch = Watch(Sentry(""), webhook=gone.hook, out=io.StringIO)
    await watch.open(database)
    for _ in range(2):
        with pytest.raises(WebhookError, match="cannot be reached"):
            await watch.look(fine, OPEN)
    await watch.close()


async def test_breadcrumbs_are_of_their_job_alone(database: Database) -> None:
    with Dsn() as sentry:
        watch = Watch(Sentry(sentry.dsn), out=io.StringIO)
        await watch.open(database)
        for number in (1, 2):
            job = EmailJob(message_id=f"m-{number}", recipient="mia@example.com", subject="s", content="Mia Quill")
            with watch.job(job, 1):
                watch.breadcrumb("message.sending", message=job.message_id)
                try:
                    raise RuntimeError(f"{job.content} {job}")
                except RuntimeError as error:
                    watch.capture(error, type="email_send")
        await sentry.until("event", 2)
        await sentry.until("transaction", 2)
        await watch.close()
        assert all(b"Quill" not in each and b"mia@" not in each for each in sentry.raw)
        assert [
            [(crumb["message"], crumb["data"]["message"]) for crumb in each["breadcrumbs"]["values"]]
            for each in sentry.of("event")
        ] == [[("job.begun", f"m-{number}"), ("message.sending", f"m-{number}")] for number in (1, 2)]
        assert [each["contexts"]["job"]["message"] for each in sentry.of("transaction")] == ["m-1", "m-2"]


def test_events_of_the_queue_lose_the_words_of_errors() -> None:
    heard: list[Any] = []
    listen = Watch(Sentry(""), out=io.StringIO).listen(heard.append)
    listen(MessageFailed(queue="q", message_id="1", attempt=1, error="ValueError: Mia Quill", delay_ms=5))
    assert heard[0].error == "ValueError"


def test_a_dsn_that_is_none_is_said() -> None:
    with pytest.raises(SettingError, match="SENTRY_DSN"):
        Sentry("nonsense")
