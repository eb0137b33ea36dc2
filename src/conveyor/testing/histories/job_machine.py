"""Random lives of jobs, played to the memory store and to a store of yours: each rule is one call to both. After each
both must tell the same of every job, and what is true of jobs whatever happens must hold."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conveyor.model.ids import IdSource, MessageId
from conveyor.model.job import FINAL, RECORD_MS, JobRecord, JobState
from conveyor.model.message import Draft, Lease
from conveyor.model.verdict import Action, Settlement
from conveyor.store.jobs import JobFound, JobsAsked
from conveyor.store.memory import MemoryStore
from conveyor.store.protocol import Store
from conveyor.store.records import Ending
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_claim, a_consumer, an_ending, an_owner
from conveyor.testing.histories.pair import Pair
from conveyor.testing.histories.views import fates, grants, nothing

QUEUE: Final = "jobs"
DEAD: Final = "jobs-dlq"
HEADERS: Final = b'{"job":"mail"}'
PICK: Final = st.integers(0, 7)
ENDS: Final = st.sampled_from(["succeed", "succeed", "fail", "fail", "reject", "put off", "give back", "cancelled"])
_ENDS: Final = {
    "succeed": (Action.ACK, JobState.SUCCEEDED), "cancelled": (Action.ACK, JobState.CANCELLED),
    "fail": (Action.RETRY, JobState.RETRYING), "reject": (Action.REJECT, JobState.FAILED),
    "put off": (Action.RELEASE, JobState.RETRYING), "give back": (Action.RELEASE, None),
}  # fmt: skip


class JobMachine(RuleBasedStateMachine):
    """Subclasses say how the store under test is made."""

    folders: ClassVar[str | None] = None

    @staticmethod
    def make_store(folder: Path, clock: ManualClock) -> Store:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.folders))
        self.clock = ManualClock()
        self.pair = Pair(MemoryStore(self.clock), self.make_store(self.folder, self.clock))
        self.ids = IdSource(self.clock)
        self.jobs: list[MessageId] = []
        self.leases: list[Lease] = []
        self.ended: dict[MessageId, JobState] = {}
        """Final, and not tried again since."""
        self.taken: set[MessageId] = set()
        """Out of the queue for good: never again may they be claimed."""
        self.owner = 0

    def teardown(self) -> None:
        self.pair.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @initialize(retries=st.integers(0, 2), keyed=st.booleans())
    def begin(self, retries: int, keyed: bool) -> None:
        settings = a_consumer(
            tracks_jobs=True, max_retries=retries, dead_letter_queue=DEAD, key_concurrency=1 if keyed else None
        )
        self.pair.ask(lambda store: store.declare_consumer(QUEUE, settings), view=nothing)
        self._hire()

    def _hire(self) -> None:
        self.owner = self.pair.ask(lambda store: store.register_owner(an_owner()))
        self.leases = []

    # In

    @rule(
        delay=st.sampled_from([None, None, 5_000]), unique=st.sampled_from([None, None, "x", "y"]),
        key=st.sampled_from([None, "k"]), window=st.sampled_from([None, 10_000]),
    )  # fmt: skip
    def enqueue(self, delay: int | None, unique: str | None, key: str | None, window: int | None) -> None:
        draft = self._draft(delay_ms=delay, dedupe=unique, key=key, dedupe_ms=window if unique else None)
        [sent] = self.pair.ask(lambda store: store.append([draft]))
        if not sent.deduped:
            self.jobs.append(sent.id)

    @rule(unique=st.sampled_from(["x", "y"]), delay=st.sampled_from([None, 5_000]))
    def replace(self, unique: str, delay: int | None) -> None:
        draft = self._draft(dedupe=unique, delay_ms=delay)
        sent = self.pair.ask(lambda store: store.jobs.replace(draft))
        assert sent.id == draft.id and not sent.deduped, "the new one always takes the place"
        self.jobs.append(sent.id)

    def _draft(self, **parts: object) -> Draft:
        return Draft(**({"id": self.ids.new(), "queue": QUEUE, "body": b"1", "headers": HEADERS} | parts))  # type: ignore[arg-type]  # parts of a draft

    # Out

    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        request = a_claim(queue=QUEUE, owner=self.owner, limit=limit)
        claimed = self.pair.ask(lambda store: store.claim(request), view=grants)
        for lease in claimed.leases:
            assert lease.id not in self.taken, "a job that is final was claimed"
        self.leases += claimed.leases

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, end=ENDS, delay=st.sampled_from([0, 3_000]))
    def settle(self, pick: int, end: str, delay: int) -> None:
        lease = self.leases.pop(pick % len(self.leases))
        action, state = _ENDS[end]
        record = None if state is None else self._record(lease, state, delay)
        waits = delay if end in ("fail", "put off") else None
        said = Settlement(lease.seq, lease.claim, action, waits, None, "broken", outcome=record)
        self.pair.ask(lambda store: store.settle(self.owner, [said]), view=fates)

    def _record(self, lease: Lease, state: JobState, delay: int) -> JobRecord:
        now, is_done = self.clock.now_ms(), state is JobState.SUCCEEDED
        failed = state not in (JobState.SUCCEEDED, JobState.CANCELLED)
        return JobRecord(
            id=lease.id, name="mail", queue=QUEUE, state=state, enqueued_at=lease.sent_at, started_at=now, ended_at=now,
            attempts=lease.attempts, worker="here:1", result=b"1" if is_done else None,
            result_until=now + 60_000 if is_done else None, error="broken" if failed else None,
            fingerprint="f00" if failed else None, next_at=now + delay if state is JobState.RETRYING else None,
            expires_at=now + RECORD_MS,
        )  # fmt: skip

    @precondition(lambda self: self.leases)
    @rule()
    def beat(self) -> None:
        running = [self._running(each) for each in self.leases]
        wanted = self.pair.ask(lambda store: store.jobs.beat(running), view=sorted)
        cancelled = {each.id for each in self._find() if each.record is not None and each.record.cancel_at is not None}
        assert set(wanted) <= cancelled, "told to end without a wish"

    def _running(self, lease: Lease) -> JobRecord:
        now = self.clock.now_ms()
        return JobRecord(
            id=lease.id, name="mail", queue=QUEUE, state=JobState.RUNNING, enqueued_at=lease.sent_at,
            started_at=now + 1, ended_at=None, attempts=lease.attempts, worker="here:1", expires_at=now + RECORD_MS,
        )  # fmt: skip

    @rule(ending=st.sampled_from(list(Ending)), begun=st.booleans())
    def die(self, ending: Ending, begun: bool) -> None:
        """The worker, and with it what it ran."""
        started = frozenset(each.seq for each in self.leases[-1:]) if begun else frozenset()
        evidence = an_ending(ending, started=started, culprit=min(started, default=None))
        self.pair.ask(lambda store: store.reap_owner(self.owner, evidence))
        self._hire()

    # Beside

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        id = self.jobs[-1 - pick % len(self.jobs)]
        found = self.pair.ask(lambda store: store.jobs.cancel(id), view=_told)
        if found is not None and found.message is None:
            assert found.state(self.clock.now_ms()) in FINAL

    @precondition(lambda self: any(each.message is not None and each.message.dead for each in self._find()))
    @rule(pick=PICK)
    def retry(self, pick: int) -> None:
        dead = [each for each in self._find() if each.message is not None and each.message.dead is not None]
        chosen = dead[pick % len(dead)]
        assert chosen.message is not None
        seq = chosen.message.seq
        assert self.pair.ask(lambda store: store.redrive(DEAD, seqs=[seq])) == 1
        self.ended.pop(chosen.id, None)

    @rule(seconds=st.sampled_from([0.001, 1, 3, 5, 11]))
    def advance(self, seconds: float) -> None:
        self.pair.run(self.clock.advance(seconds))
        self.pair.ask(lambda store: store.renew_owners([self.owner]))

    # What holds

    def _find(self) -> list[JobFound]:
        return self.pair.run(self.pair.real.jobs.find(self.jobs))

    @invariant()
    def agree(self) -> None:
        """Both tell the same of every job; none is lost, and none that is final changes by itself."""
        if not self.jobs:
            return
        found = self.pair.ask(lambda store: store.jobs.find(self.jobs), view=lambda each: sorted(map(_seen, each)))
        now = self.clock.now_ms()
        # One that was purged or taken out before anything was kept of it would be missing; nothing here purges.
        assert {each.id for each in found} == set(self.jobs), "a job is nowhere"
        for each in found:
            state = each.state(now)
            before = self.ended.get(each.id)
            assert before in (None, state), f"{before} became {state}"
            if state in FINAL:
                self.ended[each.id] = state
                if each.message is None:
                    self.taken.add(each.id)
        self.pair.ask(
            lambda store: store.jobs.look(JobsAsked(limit=1_000)), view=lambda page: [_seen(each) for each in page.jobs]
        )
        self.pair.ask(lambda store: store.jobs.errors(name=None, limit=9))
        last = self.jobs[-1]
        self.pair.ask(lambda store: store.jobs.attempts(last, limit=99), view=list)


def _told(found: JobFound | None) -> object:
    return None if found is None else _seen(found)


def _seen(found: JobFound) -> tuple[object, ...]:
    message = found.message
    where = (
        None if message is None else (message.queue, message.attempts, message.leased, message.ready_at, message.dead)
    )
    return found.id, where, found.record
