"""Cloudflare's own Python SDK drives queues and KV: every method that it has for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cloudflare
import pytest
from cloudflare import Cloudflare

from conveyor import Conveyor
from kit.wrangler import ACCOUNT, Server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Cloudflare]:
    with Cloudflare(base_url=f"{server.url}/client/v4", api_token=server.token) as client:
        yield client


def make_queue(client: Cloudflare, name: str, **consumer: Any) -> str:
    """A queue that is pulled from; its id."""
    queue = client.queues.create(account_id=ACCOUNT, queue_name=name)
    assert queue is not None
    assert queue.queue_id is not None
    client.queues.consumers.create(queue.queue_id, account_id=ACCOUNT, type="http_pull", **consumer)
    return queue.queue_id


def pull(client: Cloudflare, queue: str, **options: Any) -> list[Any]:
    found = client.queues.messages.pull(queue, account_id=ACCOUNT, **options)
    assert found is not None
    return found.messages or []


def test_a_token_is_verified(client: Cloudflare, server: Server) -> None:
    verified = client.user.tokens.verify()
    assert verified is not None
    assert verified.status == "active"
    wrong = server.token[::-1]
    with Cloudflare(base_url=f"{server.url}/client/v4", api_token=wrong) as stranger:
        with pytest.raises(cloudflare.AuthenticationError) as unverified:
            stranger.user.tokens.verify()
        assert unverified.value.errors[0].code == 1000
        with pytest.raises(cloudflare.PermissionDeniedError) as refused:
            stranger.queues.list(account_id=ACCOUNT)
        assert refused.value.errors[0].code == 10000


def test_queues(client: Cloudflare) -> None:
    made = client.queues.create(account_id=ACCOUNT, queue_name="sdk-queue")
    assert made is not None
    assert made.queue_id is not None
    with pytest.raises(cloudflare.ConflictError) as taken:
        client.queues.create(account_id=ACCOUNT, queue_name="sdk-queue")
    assert taken.value.errors[0].code == 11009
    assert taken.value.response.headers["x-should-retry"] == "false"
    assert "sdk-queue" in [each.queue_name for each in client.queues.list(account_id=ACCOUNT)]
    edited = client.queues.edit(made.queue_id, account_id=ACCOUNT, settings={"delivery_delay": 7})
    assert edited is not None
    assert edited.settings is not None
    assert (edited.settings.delivery_delay, edited.settings.message_retention_period) == (7, 345_600)
    replaced = client.queues.update(made.queue_id, account_id=ACCOUNT, settings={"message_retention_period": 3600})
    assert replaced is not None
    assert replaced.settings is not None
    assert (replaced.settings.delivery_delay, replaced.settings.message_retention_period) == (0, 3600)
    assert client.queues.get(made.queue_id, account_id=ACCOUNT) == replaced
    for name, change in (("sdk-renamed", client.queues.edit), ("sdk-again", client.queues.update)):
        renamed = change(made.queue_id, account_id=ACCOUNT, queue_name=name)
        assert renamed is not None
        assert (renamed.queue_id, renamed.queue_name) == (made.queue_id, name)
    assert "sdk-queue" not in [each.queue_name for each in client.queues.list(account_id=ACCOUNT)]
    other = client.queues.create(account_id=ACCOUNT, queue_name="sdk-queue")
    assert other is not None
    assert other.queue_id is not None
    assert other.queue_id != made.queue_id
    with pytest.raises(cloudflare.ConflictError) as taken:
        client.queues.edit(made.queue_id, account_id=ACCOUNT, queue_name="sdk-queue")
    assert taken.value.errors[0].code == 11009
    client.queues.delete(other.queue_id, account_id=ACCOUNT)
    client.queues.delete(made.queue_id, account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError) as missing:
        client.queues.get(made.queue_id, account_id=ACCOUNT)
    assert missing.value.errors[0].code == 11000


def test_messages_go_in_and_out(client: Cloudflare) -> None:
    queue = make_queue(client, "sdk-messages", settings={"max_retries": 1, "retry_delay": 0})
    pushed = client.queues.messages.push(queue, account_id=ACCOUNT, body={"n": 1}, content_type="json")
    assert pushed is not None
    assert pushed.metadata is not None
    assert pushed.metadata.metrics is not None
    assert pushed.metadata.metrics.backlog_count == 1
    messages = [{"body": "zwei", "content_type": "text"}, {"body": {"n": 3}, "content_type": "json"}]
    client.queues.messages.bulk_push(queue, account_id=ACCOUNT, messages=messages)  # type: ignore[arg-type]  # plain dictionaries, as people write them
    first, second, third = pull(client, queue, batch_size=10, visibility_timeout_ms=60_000)
    assert [each.body for each in (first, second, third)] == ['{"n":1}', "zwei", '{"n":3}']
    assert [each.metadata["CF-Content-Type"] for each in (first, second)] == ["json", "text"]
    assert first.attempts == 1
    assert pull(client, queue) == []
    settled = client.queues.messages.ack(
        queue,
        account_id=ACCOUNT,
        acks=[{"lease_id": first.lease_id}, {"lease_id": "none"}],
        retries=[{"lease_id": second.lease_id, "delay_seconds": 0}],
    )
    assert settled is not None
    assert (settled.ack_count, settled.retry_count) == (1, 1)
    assert settled.warnings is not None
    assert set(settled.warnings) == {"none"}
    [again] = pull(client, queue)
    assert (again.id, again.attempts) == (second.id, 2)
    assert again.lease_id != second.lease_id
    late = client.queues.messages.ack(queue, account_id=ACCOUNT, acks=[{"lease_id": second.lease_id}])
    assert late is not None
    assert late.ack_count == 1, "a late ack counts, though the message is leased again"
    metrics = client.queues.get_metrics(queue, account_id=ACCOUNT)
    assert metrics is not None
    assert metrics.backlog_count == 1
    peeked = client.queues.messages.peek(queue, account_id=ACCOUNT, batch_size=5)
    assert peeked is not None
    [seen] = peeked.messages or []
    assert seen.body == '{"n":3}'
    purged = client.queues.messages.purge(queue, account_id=ACCOUNT, refs=[{"ref": str(seen.ref)}, {"ref": "none"}])
    assert purged is not None
    assert purged.warnings == {"none": "no such ref"}
    assert pull(client, queue) == []


def test_a_pause_and_a_purge(client: Cloudflare) -> None:
    queue = make_queue(client, "sdk-paused")
    client.queues.messages.push(queue, account_id=ACCOUNT, body="kept", content_type="text")
    client.queues.edit(queue, account_id=ACCOUNT, settings={"delivery_paused": True})
    with pytest.raises(cloudflare.ConflictError) as paused:
        pull(client, queue)
    assert paused.value.errors[0].message == "queue_delivery_paused"
    client.queues.edit(queue, account_id=ACCOUNT, settings={"delivery_paused": False})
    assert len(pull(client, queue, visibility_timeout_ms=0)) == 1
    client.queues.purge.start(queue, account_id=ACCOUNT, delete_messages_permanently=True)
    status = client.queues.purge.status(queue, account_id=ACCOUNT)
    assert status is not None
    assert status.completed
    assert pull(client, queue) == []


def test_consumers(client: Cloudflare) -> None:
    queue = make_queue(client, "sdk-consumers", dead_letter_queue="sdk-consumers-dlq")
    [consumer] = client.queues.consumers.list(queue, account_id=ACCOUNT)
    assert consumer.consumer_id is not None
    assert consumer.dead_letter_queue == "sdk-consumers-dlq"
    updated = client.queues.consumers.update(
        consumer.consumer_id,
        account_id=ACCOUNT,
        queue_id=queue,
        type="http_pull",
        settings={"visibility_timeout_ms": 1000},
    )
    assert updated is not None
    assert updated.consumer_id == consumer.consumer_id
    one = client.queues.consumers.get(consumer.consumer_id, account_id=ACCOUNT, queue_id=queue)
    assert one is not None
    assert one.settings is not None
    client.queues.consumers.delete(consumer.consumer_id, account_id=ACCOUNT, queue_id=queue)
    assert list(client.queues.consumers.list(queue, account_id=ACCOUNT)) == []
    worker = client.queues.consumers.create(queue, account_id=ACCOUNT, type="worker", script_name="wire")
    assert worker is not None
    assert worker.type == "worker"


def test_what_happens_to_namespaces_is_told(client: Cloudflare) -> None:
    queue = make_queue(client, "sdk-events")
    subscription = client.queues.subscriptions.create(
        account_id=ACCOUNT,
        name="namespaces",
        enabled=True,
        source={"type": "kv"},
        destination={"type": "queues.queue", "queue_id": queue},
        events=["namespace.created", "namespace.deleted"],
    )
    assert subscription is not None
    assert subscription.id in [each.id for each in client.queues.subscriptions.list(account_id=ACCOUNT)]
    namespace = client.kv.namespaces.create(account_id=ACCOUNT, title="sdk-told")
    assert namespace is not None
    client.queues.subscriptions.update(subscription.id, account_id=ACCOUNT, enabled=False)
    client.kv.namespaces.delete(namespace.id, account_id=ACCOUNT)
    [event] = pull(client, queue)
    assert '"type":"cf.kv.namespace.created"' in event.body
    assert namespace.id in event.body
    client.queues.subscriptions.delete(subscription.id, account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError):
        client.queues.subscriptions.get(subscription.id, account_id=ACCOUNT)


def test_kv(client: Cloudflare) -> None:
    namespace = client.kv.namespaces.create(account_id=ACCOUNT, title="sdk-kv")
    assert namespace is not None
    there: dict[str, Any] = {"account_id": ACCOUNT, "namespace_id": namespace.id}
    odd = b"\x00\xff\r\n--value\r\n"
    client.kv.namespaces.values.update("a/b c?", **there, value=odd, metadata='{"m":1}', expiration_ttl=300)
    assert client.kv.namespaces.values.get("a/b c?", **there).read() == odd
    assert client.kv.namespaces.metadata.get("a/b c?", **there) == {"m": 1}
    pairs: list[Any] = [{"key": f"k{number:02}", "value": "v"} for number in range(25)]
    client.kv.namespaces.bulk_update(namespace.id, account_id=ACCOUNT, body=pairs)
    keys = [each.name for each in client.kv.namespaces.keys.list(namespace.id, account_id=ACCOUNT, limit=10)]
    assert keys == ["a/b c?", *(pair["key"] for pair in pairs)]
    found = client.kv.namespaces.bulk_get(namespace.id, account_id=ACCOUNT, keys=["k01", "missing"])
    assert found is not None
    assert found.values == {"k01": "v", "missing": None}
    client.kv.namespaces.bulk_delete(namespace.id, account_id=ACCOUNT, body=["k01"])
    client.kv.namespaces.values.delete("k02", **there)
    with pytest.raises(cloudflare.NotFoundError):
        client.kv.namespaces.values.get("k02", **there)
    renamed = client.kv.namespaces.update(namespace.id, account_id=ACCOUNT, title="sdk-renamed")
    assert renamed is not None
    assert renamed.id == namespace.id
    assert "sdk-renamed" in [each.title for each in client.kv.namespaces.list(account_id=ACCOUNT)]
    assert client.kv.namespaces.values.get("k03", **there).read() == b"v"


@pytest.mark.anyio
async def test_an_app_reads_the_same_values(client: Cloudflare, server: Server) -> None:
    namespace = client.kv.namespaces.create(account_id=ACCOUNT, title="sdk-shared")
    assert namespace is not None
    there: dict[str, Any] = {"account_id": ACCOUNT, "namespace_id": namespace.id}
    client.kv.namespaces.values.update("from-the-wire", **there, value=b"1")
    app = Conveyor("reader", url=server.store)
    async with app:
        assert await app.kv("sdk-shared").get("from-the-wire") == "1"
        await app.kv("sdk-shared").put("from-the-app", "2")
    assert client.kv.namespaces.values.get("from-the-app", **there).read() == b"2"
