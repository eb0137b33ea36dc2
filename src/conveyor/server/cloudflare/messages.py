"""The data plane: push, pull, ack and retry, and a look without a lease. Everything that a client sends in numbers goes
through here, so bodies are kept as the bytes that came and answers are written by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from conveyor.model.errors import QueueNotFoundError
from conveyor.model.ids import IdSource, show_id
from conveyor.model.message import PEEK_MESSAGES_MAX, PULL_MESSAGES_MAX, PULL_MS_MAX, Draft
from conveyor.model.settings import ConsumerType
from conveyor.model.verdict import Action, Backoff, Settlement
from conveyor.server.cloudflare import bodies
from conveyor.server.cloudflare.bodies import METADATA, Pulled, Push, Seen, decode, read_body, read_delay, read_within
from conveyor.server.cloudflare.dialect import MESSAGE_METADATA_INVALID, MESSAGE_TOO_LARGE, Refusal, succeed
from conveyor.server.cloudflare.directory import Directory, Known
from conveyor.server.endpoint import Answer, Call, Endpoint, Handle
from conveyor.server.leases import Stamps
from conveyor.server.rights import Right
from conveyor.store.records import PULL_OWNER, ClaimRequest

PUSH_BYTES_MAX: Final = 2_000_000
"""A body of 128,000 bytes may be six times as long where each of its signs is escaped."""
BATCH_BYTES_MAX: Final = 4_000_000
PULL_MESSAGES: Final = 5
VERDICTS_MAX: Final = 1_000

_NOT_PULLED: Final = 0
_STALE: Final = "the lease is not current any more: nothing was done"
_GONE: Final = "the message was gone already"
_UNKNOWN_REF: Final = "no such ref"
_UNKNOWN: Final = "no such lease"
_encode: Final = msgspec.json.Encoder().encode


class Messages:
    """The messages of one server's queues. `encodes_json` gives JSON bodies as base64 to those who pull, as
    Cloudflare's documentation has it, instead of as JSON text, as Cloudflare does it."""

    def __init__(self, directory: Directory, *, encodes_json: bool = False) -> None:
        self._directory = directory
        self._encodes_json = encodes_json
        self._stamps = Stamps()
        self._ids: IdSource | None = None
        self._chance = random.Random()  # noqa: S311 spreads retries, guards nothing

    def endpoints(self) -> list[Endpoint]:
        return [
            _hot("", Right.SEND, self.push, PUSH_BYTES_MAX),
            _hot("/batch", Right.SEND, self.push_batch, BATCH_BYTES_MAX),
            _hot("/pull", Right.CONSUME, self.pull, 4_096),
            _hot("/ack", Right.CONSUME, self.settle, 262_144),
            _hot("/peek", Right.READ, self.peek, 4_096, "message.peek"),
            _hot("/purge", Right.MANAGE, self.discard, 262_144, "message.discard"),
        ]

    async def push(self, call: Call) -> Answer:
        """One message; it is safely in the store when this answers."""
        known = self._recall(call, Right.SEND) or await self._find(call, Right.SEND)
        message = decode(bodies.PUSH, call.body)
        delay_ms = read_delay(message.delay_seconds, MESSAGE_METADATA_INVALID)
        draft = self._draft(call, known, message, delay_ms, bodies.read_idempotency_key(call))
        size = len(draft.body)
        if size > known.info.settings.max_message_bytes:
            bodies.refuse_size("a message's body", size, known.info.settings.max_message_bytes, MESSAGE_TOO_LARGE)
        known = await self._append(call, known, [draft], size)
        return bodies.pushed(known.metrics)

    async def push_batch(self, call: Call) -> Answer:
        """Several messages, all or none."""
        known = self._recall(call, Right.SEND) or await self._find(call, Right.SEND)
        batch = decode(bodies.BATCH, call.body)
        settings = known.info.settings
        if not 1 <= len(batch.messages) <= settings.max_batch_messages:
            words = f"a batch holds 1 to {settings.max_batch_messages:,} messages, this one {len(batch.messages):,}"
            raise Refusal(bodies.BATCH_COUNT, words)
        common_ms = read_delay(batch.delay_seconds, bodies.BATCH_DELAY_INVALID)
        key, drafts, total = bodies.read_idempotency_key(call), [], 0
        for number, message in enumerate(batch.messages):
            delay_ms = read_delay(message.delay_seconds, MESSAGE_METADATA_INVALID)
            draft = self._draft(
                call, known, message, common_ms if delay_ms is None else delay_ms, key and f"{key}:{number}"
            )
            size = len(draft.body)
            if size > settings.max_message_bytes:
                bodies.refuse_size(f"the body of message {number}", size, settings.max_message_bytes, MESSAGE_TOO_LARGE)
            total += size
            drafts.append(draft)
        if total > settings.max_batch_bytes:
            bodies.refuse_size("a batch of bodies", total, settings.max_batch_bytes, bodies.BATCH_TOO_LARGE)
        known = await self._append(call, known, drafts, total)
        return bodies.pushed(known.metrics)

    async def pull(self, call: Call) -> Answer:
        """Lease messages; never waits for any."""
        known = self._recall(call, Right.CONSUME) or await self._find(call, Right.CONSUME)
        wanted = decode(bodies.PULL, call.body or b"{}")
        consumer = known.info.consumer
        if consumer is None or consumer.type is not ConsumerType.HTTP_PULL:
            raise Refusal(_NOT_PULLED, "messages cannot be pulled unless http_pull mode is enabled")
        if known.info.paused:
            raise Refusal(_NOT_PULLED, "queue_delivery_paused", status=409)
        timeout = wanted.visibility_timeout if wanted.visibility_timeout_ms is None else wanted.visibility_timeout_ms
        limit = read_within("batch_size", wanted.batch_size, PULL_MESSAGES, 1, PULL_MESSAGES_MAX, bodies.BATCH_COUNT)
        lease_ms = read_within(
            "visibility_timeout_ms", timeout, consumer.visibility_timeout_ms, 0, PULL_MS_MAX, bodies.BODY_INVALID
        )
        request = ClaimRequest(queue=known.name, owner=PULL_OWNER, limit=limit, lease_ms=lease_ms)
        try:
            claimed = await call.store.claim(request)
        except QueueNotFoundError:
            known = await self._look_again(call, known, Right.CONSUME)
            claimed = await call.store.claim(replace(request, queue=known.name))
        stamp = await self._stamps.of(call.store, known.id, call.caller.token_id)
        if not known.is_counted(call.store.clock.monotonic()):
            await known.count(call.store)
        pulled = [
            Pulled(
                lease.id.hex(),
                bodies.show_body(lease, encodes_json=self._encodes_json),
                lease.sent_at,
                lease.attempts,
                METADATA[lease.content_type],
                stamp.lease(lease.seq, lease.claim),
            )
            for lease in claimed.leases
        ]
        counts = known.metrics.backlog_messages
        return Answer(
            200,
            b'{"success":true,"errors":[],"messages":[],"result":{"message_backlog_count":%d,"messages":%b,%b}}'
            % (counts, _encode(pulled), bodies.metadata_json(known.metrics)),
        )

    async def settle(self, call: Call) -> Answer:
        """Acks, late ones too, and retries of what is still leased."""
        known = self._recall(call, Right.CONSUME) or await self._find(call, Right.CONSUME)
        said = decode(bodies.VERDICTS, call.body)
        acks, retries = said.acks or [], said.retries or []
        if len(acks) + len(retries) > VERDICTS_MAX:
            raise Refusal(bodies.BATCH_COUNT, f"a request settles at most {VERDICTS_MAX:,} messages")
        stamp = await self._stamps.of(call.store, known.id, call.caller.token_id)
        warnings: dict[str, str] = {}
        settlements: dict[int, Settlement] = {}
        names: dict[int, str] = {}
        for ack in acks:
            lease = stamp.read_lease(ack.lease_id)
            if lease is None:
                warnings[ack.lease_id] = _UNKNOWN
                continue
            settlements.setdefault(lease[0], Settlement(lease[0], lease[1]))
            names.setdefault(lease[0], ack.lease_id)
        for retry in retries:
            delay_ms = read_delay(retry.delay_seconds, MESSAGE_METADATA_INVALID)
            lease = stamp.read_lease(retry.lease_id)
            if lease is None:
                warnings[retry.lease_id] = _UNKNOWN
                continue
            if delay_ms is None:
                consumer = known.info.consumer
                backoff = Backoff(base_ms=0) if consumer is None else consumer.retry_delay
                delay_ms = backoff.delay_ms(lease[1], self._chance.random())
            settlements.setdefault(lease[0], Settlement(lease[0], lease[1], Action.RETRY, delay_ms))
            names.setdefault(lease[0], retry.lease_id)
        if settlements:
            for seq in (await call.store.settle_pulled(list(settlements.values()))).lost:
                warnings[names[seq]] = _STALE
                del settlements[seq]
        acked = sum(1 for each in settlements.values() if each.action is Action.ACK)
        known.add(-acked, 0)
        return Answer(
            200,
            b'{"success":true,"errors":[],"messages":[],"result":{"ackCount":%d,"retryCount":%d,"warnings":%b}}'
            % (acked, len(settlements) - acked, _encode(warnings)),
        )

    async def peek(self, call: Call) -> Answer:
        """Messages as they lie there: no lease, no attempt."""
        known = self._recall(call, Right.READ) or await self._find(call, Right.READ)
        call.target = known.name
        wanted = decode(bodies.PEEK, call.body or b"{}")
        limit = read_within("batch_size", wanted.batch_size, PULL_MESSAGES, 1, PEEK_MESSAGES_MAX, bodies.BATCH_COUNT)
        stamp = await self._stamps.of(call.store, known.id, call.caller.token_id)
        seen = [
            Seen(
                show_id(each.id),
                bodies.show_body(each, encodes_json=self._encodes_json),
                each.sent_at,
                each.attempts,
                METADATA[each.content_type],
                stamp.ref(each.seq),
            )
            for each in await call.store.peek(known.name, limit=limit)
        ]
        return Answer(200, b'{"success":true,"errors":[],"messages":[],"result":{"messages":%b}}' % _encode(seen))

    async def discard(self, call: Call) -> Answer:
        """Messages by the refs that a peek gave."""
        known = self._recall(call, Right.MANAGE) or await self._find(call, Right.MANAGE)
        refs = [each.ref for each in decode(bodies.PURGE, call.body).refs]
        if len(refs) > VERDICTS_MAX:
            raise Refusal(bodies.BATCH_COUNT, f"a request purges at most {VERDICTS_MAX:,} messages")
        stamp = await self._stamps.of(call.store, known.id, call.caller.token_id)
        seqs = {ref: stamp.read_ref(ref) for ref in refs}
        gone = frozenset(await call.store.discard(known.name, [seq for seq in seqs.values() if seq is not None]))
        known.add(-len(gone), 0)
        warnings = {ref: _UNKNOWN_REF if seq is None else _GONE for ref, seq in seqs.items() if seq not in gone}
        return succeed({"errors": [], "warnings": warnings})

    def _recall(self, call: Call, right: Right) -> Known | None:
        """The queue, if it was looked up lately and the caller has that right there: no task waits for that."""
        known = self._directory.recall(call.path["queue"], call.store.clock.monotonic())
        return known if known is not None and call.caller.may(right, known.name) else None

    async def _find(self, call: Call, right: Right) -> Known:
        try:
            return await self._directory.find(call, right)
        except QueueNotFoundError as error:
            bodies.check_reference(call.path["queue"])
            raise Refusal(bodies.QUEUE_NOT_FOUND, bodies.words_for(str(error.facts["name"])), status=404) from error

    async def _look_again(self, call: Call, known: Known, right: Right) -> Known:
        """A queue that has gone since it was looked up, or has another name. `Refusal`."""
        self._directory.forget(known)
        found = await self._directory.find_id(call.store, known.id)
        if found is None or found.name == known.name or call.sealer.covers(found.name):
            raise Refusal(bodies.QUEUE_NOT_FOUND, bodies.words_for(known.id), status=404)
        call.require(right, found.name)
        return found

    async def _append(self, call: Call, known: Known, drafts: Sequence[Draft], size: int) -> Known:
        """Where they went: the queue may have been renamed since it was looked up."""
        try:
            sent = await call.store.append(drafts)
        except QueueNotFoundError:
            known = await self._look_again(call, known, Right.SEND)
            sent = await call.store.append([replace(draft, queue=known.name) for draft in drafts])
        if sent[0].deduped:
            size, drafts = 0, []
        known.add(len(drafts), size)
        if not known.is_counted(call.store.clock.monotonic()):
            await known.count(call.store)
        return known

    def _draft(self, call: Call, known: Known, message: Push, delay_ms: int | None, key: str | None) -> Draft:
        if self._ids is None:
            self._ids = IdSource(call.store.clock)
        body, content_type = read_body(message)
        draft = Draft(
            id=self._ids.new(),
            queue=known.name,
            body=body,
            content_type=content_type,
            delay_ms=delay_ms,
            dedupe=key,
        )
        return call.sealer.seal_draft(draft) if call.sealer.covers(known.name) else draft


def _hot(path: str, right: Right, handle: Handle, body_max: int, action: str | None = None) -> Endpoint:
    """Whatever the content type says, the body is JSON: wrangler and curl send others."""
    return Endpoint(
        method="POST",
        path=f"/queues/{{queue}}/messages{path}",
        right=right,
        handle=handle,
        body_max=body_max,
        action=action,
        content_types=(),
    )
