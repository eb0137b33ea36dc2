"""For campaigns: concierge as it runs (server, supervised workers, sandbox, each a process), a mixed lot of messages,
kills, and a judge who reads the tables, the dead letters and the sandbox's ledger."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import httpx2

from concierge.clinic import PostOffice
from conveyor_apps.concierge.jobs import EmailJob, Job, MessageJob, SmsJob
from conveyor_apps.concierge.words import Urgency
from kit.postgres import free_port

TARGET = "conveyor_apps.concierge.served:app"
FINAL = ("sent", "delivered", "failed", "bounced", "cancelled")
DEAD = """
SELECT c.id FROM messages m JOIN queues q USING (lane) JOIN concierge_messages c ON c.carrier = lower(hex(m.id))
WHERE q.name = 'dlq'
"""
ENDS = ("delivered", "failed", "bounced", "cancelled")


def rows_of(file: Path, sql: str) -> list[tuple[Any, ...]]:
    """Of the tables."""
    with contextlib.closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        db.set_busy_timeout(30_000)
        return list(db.execute(sql))


def states_of(file: Path) -> dict[str, int]:
    """How many messages are in which state."""
    return dict(rows_of(file, "SELECT state, count(*) FROM concierge_messages GROUP BY state"))


def are_over(file: Path, wanted: int) -> bool:
    """Whether so many have come to their end."""
    states = states_of(file)
    return sum(states.get(each, 0) for each in FINAL) >= wanted


def say(figures: str) -> None:
    """On the terminal (`-s`), and where `FAULTS_RESULTS` says."""
    sys.stdout.write(f"\n{figures}\n")
    if path := os.environ.get("FAULTS_RESULTS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{figures}\n")


def wait_until(check: Callable[[], Any], *, seconds: float, every: float = 0.2) -> Any:
    """The first answer that is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)
    return found


@contextlib.contextmanager
def running(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=dict(environment), start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def sandbox(folder: Path, environment: Mapping[str, str]) -> Iterator[PostOffice]:
    """Its mail server and Twilio, in a process of their own."""
    log = folder / "sandbox.log"
    with running(["conveyor_apps.sandbox", "--smtp-port", "0"], environment, log):
        wait_until(lambda: "listening on" in log.read_text(), seconds=60)
        office = PostOffice(log.read_text().split("listening on ")[1].split()[0], folder)
        try:
            yield office
        finally:
            office.client.close()


@dataclass(frozen=True)
class House:
    """A concierge as it is served."""

    folder: Path
    environment: Mapping[str, str]
    office: PostOffice
    process: subprocess.Popen[bytes]

    def workers(self) -> list[int]:
        """The supervisor's children that work."""
        listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
        return [int(row[0]) for row in rows if int(row[1]) == self.process.pid and "server.web" not in row[2]]

    def kill_one(self, dice: random.Random) -> bool:
        """A worker, at once and without a word."""
        workers = self.workers()
        if not workers:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(workers), signal.SIGKILL)
        return True

    @property
    def file(self) -> Path:
        return self.folder / "conveyor.db"


@contextlib.contextmanager
def house(folder: Path, *, processes: int = 2, **settings: str) -> Iterator[House]:
    """Everything as it runs, in a folder of its own."""
    port = free_port()
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("CONVEYOR_", "CONCIERGE_", "SMTP_"))
    }
    with sandbox(folder, plain) as office:
        environment = {
            **plain, **office.environment, "CONVEYOR_URL": f"sqlite:///{folder}/conveyor.db",
            "CONVEYOR_PORT": str(port), "CONVEYOR_TOKEN": "test-token-" + "0" * 32,
            "CONCIERGE_DATA": str(folder / "data"), "CONCIERGE_RETRY_MS": "300", "PROVIDER_CIRCUIT_OPEN_S": "1",
            "CONCIERGE_WORKERS": "20", **settings,
        }  # fmt: skip
        serve = ["conveyor", "serve", TARGET, "--processes", str(processes)]
        with running(serve, environment, folder / "serve.log") as process:
            wait_until(lambda: process.poll() is not None or _is_ready(port), seconds=90)
            assert process.poll() is None, (folder / "serve.log").read_text()[-3_000:]
            yield House(folder, environment, office, process)


def _is_ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def strike(office: PostOffice, *, limit_every: int = 7) -> None:
    """What befalls whom: see `lot`. Each such text is told to come again in a second."""
    office.strike(
        "smtp", {"recipient": "never-*", "refuse": 550}, {"recipient": "always-*", "refuse": 451},
        {"recipient": "flaky-*", "refuse": 451, "every": 2}, {"recipient": "cut-*", "drop": True, "every": 2},
    )  # fmt: skip
    office.strike("twilio", {"recipient": "+49170666*", "refuse": 21211})
    answer = office.client.put("/admin/faults/twilio", json={"rate_limit_every": limit_every, "retry_after_s": 1})
    assert answer.status_code < 300, answer.text


def lot(count: int) -> tuple[list[MessageJob], set[str]]:
    """So many messages: of 100 are 5 refused for good (one of them an SMS), 9 fail for a while, 1 fails for ever, and 6
    are taken by a server that cuts the line instead of answering; half of those and each tenth of the rest go at most
    once. The ids of the latter."""
    jobs: list[MessageJob] = []
    once: set[str] = set()
    for number in range(count):
        id, fate = f"m{number:05d}", number % 100
        kind = (
            "never" if fate < 4 else "sms" if fate == 4 else "always" if fate == 5 else "flaky" if fate < 15
            else "cut" if fate < 21 else "text" if fate < 41 else "fine"
        )  # fmt: skip
        if (kind == "cut" and number % 2) or number % 10 == 9:
            once.add(id)
        if kind in ("sms", "text"):
            recipient = f"+49170{'666' if kind == 'sms' else '555'}{number:05d}"
            jobs.append(SmsJob(message_id=id, recipient=recipient, content=f"Number {number}", priority=Urgency.HIGH))
        else:
            recipient = f"{kind}-{number}@example.com"
            jobs.append(
                EmailJob(
                    message_id=id, recipient=recipient, subject=f"Number {number}", content="At nine.",
                    priority=Urgency.HIGH,
                )
            )  # fmt: skip
    return jobs, once


@dataclass(frozen=True)
class Verdict:
    """What the judge found."""

    states: Mapping[str, int]
    dead: int
    taken: int
    twice: int
    """Of what may go more than once: taken more than once."""
    resumed: int
    faults: list[str]


def judge(file: Path, office: PostOffice, jobs: Sequence[Job], once: set[str]) -> Verdict:
    """Whether all is as it must be, once it is over."""
    faults: list[str] = []
    history: dict[str, list[str]] = {}
    for message, event in rows_of(file, "SELECT message, event FROM concierge_history ORDER BY number"):
        history.setdefault(message, []).append(event)
    rows = rows_of(file, "SELECT id, recipient, state, coalesce(error, '') FROM concierge_messages")
    if len(rows) != len(jobs):
        faults.append(f"{len(rows)} messages of {len(jobs)}")
    exhausted: set[str] = set()
    for id, recipient, state, error in rows:
        events = history[id]
        ends = [each for each in events if each in ENDS]
        if state not in FINAL or len(ends) > 1 or (state in ENDS) != (len(ends) == 1) or events.count("sent") > 1:
            faults.append(f"{id} is {state} by {events}")
        if ends and [each for each in events[events.index(ends[0]) :] if each in ("sending", "resumed", "queued")]:
            faults.append(f"{id} went on after its end: {events}")
        if recipient.startswith("never-") and (state != "bounced" or "retrying" in events):
            faults.append(f"{id} is refused for good, and {state} by {events}")
        if recipient.startswith(("fine-", "flaky-")) and state not in ("sent", "delivered", "failed"):
            faults.append(f"{id} is {state}")
        if error.startswith("given up"):
            exhausted.add(id)
    dead = {id for (id,) in rows_of(file, DEAD)}
    if dead != exhausted:
        faults.append(f"dead letters that are not exhausted: {dead - exhausted}; the other way: {exhausted - dead}")
    taken: Counter[str] = Counter(each["recipients"][0] for each in office.accepted())
    by_recipient = {recipient: id for id, recipient, *_ in rows}
    many = {by_recipient[each] for each, count in taken.items() if count > 1}
    if many & once:
        faults.append(f"went at most once, and was taken twice: {many & once}")
    resumed = sum(events.count("resumed") for events in history.values())
    states = Counter(state for _, _, state, _ in rows)
    return Verdict(dict(states), len(dead), sum(taken.values()), len(many), resumed, faults)
