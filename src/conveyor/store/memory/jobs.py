"""What is kept of jobs, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.job import ErrorGroup, JobAttempt, JobRecord, JobState
from conveyor.model.message import Draft, Sent
from conveyor.store.jobs import AHEAD_MAX, JobFound, JobPage, JobsAsked, Obstacles, fits, job_name, unended
from conveyor.store.memory.belt import Belt
from conveyor.store.memory.witnessed import changes

_WITH_ERRORS: Final = frozenset({JobState.FAILED, JobState.DEAD, JobState.RETRYING})


class Jobs(Belt):
    """`JobStore`."""

    @property
    def jobs(self) -> Self:
        return self

    async def find(self, ids: Sequence[MessageId]) -> list[JobFound]:
        return [found for id in ids if (found := self._find_job(id)) is not None]

    async def look(self, asked: JobsAsked) -> JobPage:
        tables = self._tables
        messages = {each.id for each in tables.messages.values() if job_name(each.headers) is not None}
        ids = sorted((id for id in messages | tables.jobs.keys() if id < asked.before), reverse=True)
        now = self._now()
        fitting = [found for found in await self.find(ids) if fits(asked, found, now)]
        page = fitting[: asked.limit]
        return JobPage(jobs=page, next_before=page[-1].id if len(page) == asked.limit else None)

    async def attempts(self, id: MessageId, *, limit: int) -> list[JobAttempt]:
        return self._tables.attempts.get(id, [])[:limit]

    async def errors(self, *, name: str | None, limit: int) -> list[ErrorGroup]:
        groups: dict[tuple[str, str], list[JobRecord]] = {}
        for each in self._tables.jobs.values():
            if each.fingerprint is not None and each.state in _WITH_ERRORS and name in (None, each.name):
                groups.setdefault((each.fingerprint, each.name), []).append(each)
        found = [
            ErrorGroup(
                fingerprint=fingerprint, name=job, error=records[-1].error or "", jobs=len(records),
                last_at=max(each.ended_at or 0 for each in records),
            )
            for (fingerprint, job), records in groups.items()
        ]  # fmt: skip
        return sorted(found, key=lambda group: (-group.jobs, group.fingerprint))[:limit]

    async def beat(self, running: Sequence[JobRecord]) -> list[MessageId]:
        jobs, wanted = self._tables.jobs, []
        for each in running:
            present = jobs.get(each.id)
            if present is None:
                jobs[each.id] = replace(each, queue=self._called_now(each.queue))
            elif each.started_at > (-1 if present.ended_at is None else present.ended_at):
                jobs[each.id] = replace(
                    present, state=JobState.RUNNING, started_at=each.started_at, ended_at=None, next_at=None,
                    attempts=each.attempts, worker=each.worker, expires_at=max(present.expires_at, each.expires_at),
                )  # fmt: skip
            if present is not None and present.cancel_at is not None:
                wanted.append(each.id)
        return wanted

    @changes("job", lambda job_id: job_id.hex())
    async def cancel(self, id: MessageId) -> JobFound | None:
        return self._cancel_job(id)

    def _cancel_job(self, id: MessageId) -> JobFound | None:
        found = self._find_job(id)
        if found is None or found.message is None or found.message.dead is not None:
            return found
        now, message = self._now(), found.message
        if message.leased:
            record = found.record
            if record is None:
                begun = unended(found, now, state=JobState.RUNNING)
                record = replace(begun, started_at=0, ended_at=None)
            attempts = max(record.attempts, message.attempts)
            record = replace(record, cancel_at=record.cancel_at or now, attempts=attempts)
            self._tables.jobs[id] = record
        else:
            self._tables.jobs[id] = unended(found, now, state=JobState.CANCELLED)
            self._remove(self._tables.messages[message.seq])
            self._wake(message.queue)
        return self._find_job(id)

    async def replace(self, draft: Draft) -> Sent:
        present = self._live_dedupe(draft)
        if present is not None:
            found = self._find_job(present.id)
            if found is not None and found.message is not None and not found.message.leased:
                await self.cancel(present.id)
            assert draft.dedupe is not None
            self._tables.dedupes.pop((draft.queue, draft.dedupe), None)
        return self._append([draft])[0]

    async def obstacles(self, id: MessageId) -> Obstacles:
        now = self._now()
        message = next((each for each in self._tables.messages.values() if each.id == id), None)
        if message is None:
            return Obstacles()
        queue, lane = self._queue(message.queue), self._tables.in_queue(message.queue)
        ready = [each for each in lane if not each.leased and not each.crash_suspect]
        held = sum(calls for (name, _), calls in self._tables.slots.items() if name == queue.name)
        window = self._tables.windows.get((queue.name, ""))
        return Obstacles(
            throttled_until=queue.throttled_until,
            shelf=1 if message.crash_suspect else 0,
            releases=message.releases - message.claims_before,
            slots_held=held,
            key_leased=sum(each.leased and each.key == message.key for each in lane if message.key is not None),
            rate_opens_at=None if window is None else window.opens_at(now, 1),
            key_opens_at=self._tables.rests.get((queue.name, message.key or "")),
            ahead=sum(each.place() < message.place() and each.ready_at <= now for each in ready[:AHEAD_MAX]),
        )
