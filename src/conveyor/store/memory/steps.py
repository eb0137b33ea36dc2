"""Steps within jobs, and events that are sent to them, in memory."""

from __future__ import annotations

from typing import Self

from conveyor.model.errors import LeaseLostError
from conveyor.model.ids import MessageId, show_id
from conveyor.model.job import RECORD_MS
from conveyor.model.step import EVENTS_MAX, JobEvent, StepKind, StepRecord
from conveyor.store.memory.belt import Belt
from conveyor.store.memory.witnessed import changes
from conveyor.store.steps import Holder, Kept, Told


class Steps(Belt):
    """`StepStore`."""

    @property
    def steps(self) -> Self:
        return self

    async def read(self, id: MessageId) -> Kept:
        tables = self._tables
        return Kept(
            steps=sorted(tables.steps.get(id, {}).values(), key=_place),
            events=sorted(tables.events.get(id, {}).values(), key=lambda each: (each.sent_at, each.name)),
        )

    async def write(self, holder: Holder, step: StepRecord, *, is_first: bool) -> JobEvent | None:
        tables = self._tables
        message = tables.messages.get(holder.seq)
        if message is None or (message.owner, message.claims) != (holder.owner, holder.claim):
            raise LeaseLostError(show_id(holder.id))
        event = tables.events.get(holder.id, {}).get(step.name)
        if step.kind is StepKind.WAIT and event is not None:
            return event
        tables.steps.setdefault(holder.id, {})[step.kind, step.name] = step
        if is_first:
            self._keep_job(message, self._now() + RECORD_MS)
        return None

    @changes("event", lambda job_id, name, _payload: f"{job_id.hex()}/{name}")
    async def send(self, id: MessageId, name: str, payload: bytes) -> Told:
        tables, now = self._tables, self._now()
        found = self._find_job(id)
        if found is None or found.message is None or found.message.dead is not None:
            return Told(job=found)
        events = tables.events.setdefault(id, {})
        if name in events:
            return Told(job=found, is_kept=True)
        if len(events) >= EVENTS_MAX:
            return Told(job=found)
        message = tables.messages[found.message.seq]
        self._keep_job(message, now + RECORD_MS)
        events[name] = JobEvent(name=name, payload=payload, sent_at=now)
        wait = tables.steps.get(id, {}).get((StepKind.WAIT, name))
        if not message.leased and message.ready_at > now and wait is not None and wait.ended_at is None:
            message.ready_at = now
            self._wake(message.queue)
        return Told(job=found, is_kept=True)


def _place(step: StepRecord) -> tuple[int, int, str]:
    return step.began_at, (step.until or 0) if step.ended_at is None else step.ended_at, step.name
