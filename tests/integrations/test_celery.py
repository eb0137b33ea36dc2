"""Celery's own tasks on the bridge: the real package declares them, conveyor runs them."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from celery.exceptions import MaxRetriesExceededError, TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError

from conveyor import Conveyor, JobState
from conveyor.integrations.celery import Celery, NotBridgedError
from conveyor.testing import SyncHarness
from house.source import ROOT

EXAMPLE = ROOT / "examples" / "celery_shop"


class OrderError(Exception):
    """One of the tasks' own, that cannot be made of its words alone."""

    def __init__(self, order: int, why: str) -> None:
        super().__init__(f"order {order}: {why}")


class Shop:
    """An app and its tasks, as people write them."""

    def __init__(self) -> None:
        self.celery = app = Celery("shop", set_as_current=False)
        app.conf.task_routes = {"shop.slow": {"queue": "slow"}}
        self.seen: list[Any] = []
        seen = self.seen

        @app.task(shared=False, name="shop.echo")
        def echo(*args: Any, **kwargs: Any) -> Any:
            seen.append((args, kwargs))
            return args[0] if args else kwargs

        @app.task(shared=False, name="shop.slow")
        def slow() -> None: ...

        @app.task(shared=False, name="shop.fail", throws=(OrderError,))
        def fail(order: int) -> None:
            raise OrderError(order, "lost")

        @app.task(
            shared=False, bind=True, name="shop.fetch", autoretry_for=(ConnectionError,), retry_backoff=10, retry_jitter=False,
            retry_kwargs={"max_retries": 2}, ignore_result=True,
        )  # fmt: skip
        def fetch(self: Any, url: str) -> str:
            seen.append((self.request.retries, self.request.id, celery.current_task.name))
            raise ConnectionError(url)

        @app.task(shared=False, bind=True, name="shop.poll", max_retries=1, default_retry_delay=7)
        def poll(self: Any) -> None:
            seen.append(self.request.retries)
            raise self.retry()

        self.echo, self.slow, self.fail, self.fetch, self.poll = echo, slow, fail, fetch, poll


def _nothing() -> None: ...


def _add(a: int, b: int) -> int:
    return a + b


def _state(result: Any) -> str:
    """Celery's stubs know fewer than there are, and that it never changes."""
    return str(result.state)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def kit(shop: Shop) -> Iterator[SyncHarness]:
    with shop.celery.conveyor.testing() as kit:
        yield kit


def test_values_arrive_as_celery_would_hand_them_over(shop: Shop, kit: SyncHarness) -> None:
    when, id = dt.datetime(2026, 3, 1, tzinfo=dt.UTC), uuid.UUID(int=7)
    result = shop.echo.delay({"when": when, "id": id}, 1, x=[2])
    assert (result.state, result.ready()) == ("PENDING", False)
    kit.drain()
    assert shop.seen == [(({"when": when, "id": id}, 1), {"x": [2]})]
    assert result.get(timeout=1) == {"when": when, "id": id}
    assert (result.state, result.successful(), result.failed()) == ("SUCCESS", True, False)
    again = shop.celery.AsyncResult(result.id)
    assert again.get(timeout=1) == {"when": when, "id": id}


def test_countdown_eta_expires_priority_and_queue(shop: Shop, kit: SyncHarness) -> None:
    began = kit.now
    shop.echo.apply_async((1,), countdown=60, priority=9)
    shop.echo.apply_async((2,), eta=kit.now + dt.timedelta(hours=50))
    shop.echo.apply_async((3,), expires=30, queue="slow")
    shop.slow.delay()
    kit.assert_enqueued("celery", delay="60s", priority=9, count=1)
    kit.assert_enqueued("slow", count=2)
    kit.travel("31s")
    kit.drain()
    assert shop.seen == []
    kit.travel("30s")
    kit.drain()
    assert [args for args, _ in shop.seen] == [(1,)]
    for _ in range(5):  # a message is delayed by a day at most, and then put off anew
        kit.travel("10h")
        kit.drain()
        assert len(shop.seen) == (1 if kit.now < began + dt.timedelta(hours=50) else 2)
    job = shop.celery.conveyor.jobs.get(kit.enqueued("slow-dlq")[0].id.hex())
    assert kit.run(job.state()) is JobState.DEAD


def test_a_failure_keeps_its_class_and_is_not_tried_again(shop: Shop, kit: SyncHarness) -> None:
    result = shop.fail.delay(7)
    assert kit.drain(within="1h") == 1
    with pytest.raises(OrderError, match="order 7: lost"):
        result.get(timeout=1)
    assert (result.state, str(result.result)) == ("FAILURE", "order 7: lost")
    assert isinstance(result.get(timeout=1, propagate=False), OrderError)


def test_autoretry_backs_off_and_ends(shop: Shop, kit: SyncHarness) -> None:
    result = shop.fetch.delay("example.org")
    began = kit.now
    kit.drain()
    assert _state(result) == "RETRY"
    kit.drain(within="1h")
    assert [retries for retries, _, _ in shop.seen] == [0, 1, 2]
    assert {(id, name) for _, id, name in shop.seen} == {(result.id, "shop.fetch")}
    assert (kit.now - began).total_seconds() == 10 + 20
    assert _state(result) == "FAILURE"


def test_self_retry_gives_up(shop: Shop, kit: SyncHarness) -> None:
    result = shop.poll.delay()
    kit.drain(within="7s")
    assert shop.seen == [0, 1]
    with pytest.raises(MaxRetriesExceededError):
        result.get(timeout=1)


def test_waiting_ends_in_time_and_unknown_ids_wait(shop: Shop, kit: SyncHarness) -> None:
    with pytest.raises(CeleryTimeoutError):
        shop.echo.delay().get(timeout=0)
    unknown = shop.celery.AsyncResult("0" * 32)
    assert unknown.state == "PENDING"
    with pytest.raises(CeleryTimeoutError):
        unknown.get(timeout=0)


def test_revoked(shop: Shop, kit: SyncHarness) -> None:
    result = shop.echo.apply_async((1,), countdown=60)
    result.revoke()
    assert _state(result) == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=1)


def test_ignored_results_and_direct_calls(shop: Shop, kit: SyncHarness) -> None:
    result = shop.echo.apply_async((1,), ignore_result=True)
    assert result.get() is None
    assert shop.echo(5) == 5
    assert shop.echo.apply((6,)).get() == 6
    assert shop.celery.send_task("shop.echo", (8,)).state == "PENDING"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda shop: shop.echo.apply_async((1,), link=shop.slow.s()), "link"),
        (lambda shop: shop.echo.apply_async((1,), task_id="mine"), "task_id"),
        (lambda shop: shop.echo.apply_async((1,), time_limit=3), "time_limit"),
        (lambda shop: shop.echo.apply_async((1,), queue="nowhere"), "nowhere"),
        (lambda shop: shop.echo.apply_async((1,), serializer="pickle"), "serializer"),
        (lambda shop: shop.echo.apply_async((1,), routing_key="a.b"), "routing_key"),
        (lambda shop: celery.chain(shop.echo.s(1), shop.echo.s()).apply_async(), "chain"),
        (lambda shop: shop.celery.send_task("shop.unknown"), "shop.unknown"),
        (lambda shop: shop.celery.control.inspect(), "control.inspect"),
        (lambda _shop: Celery("x", broker="redis://localhost", set_as_current=False), "broker"),
    ],
)
def test_what_is_not_bridged_is_named(shop: Shop, kit: SyncHarness, call: Any, named: str) -> None:
    with pytest.raises(NotBridgedError, match=named) as caught:
        call(shop)
    assert caught.value.hint
    assert shop.seen == []


def test_what_is_declared_and_not_bridged_is_named_before_anything_runs() -> None:
    limited = Celery("shop", set_as_current=False)
    limited.task(shared=False, name="shop.limited", rate_limit="10/m")(_nothing)
    with pytest.raises(NotBridgedError, match="rate_limit"):
        limited.conveyor.handlers()
    beaten = Celery("shop", set_as_current=False)
    beaten.conf.beat_schedule = {"a": {"task": "shop.a", "schedule": 5}}
    with pytest.raises(NotBridgedError, match="beat_schedule"):
        beaten.conveyor.handlers()


def test_your_own_conveyor_app_takes_the_tasks_along() -> None:
    mine = Conveyor("mine", url="memory://")
    app = Celery("shop", conveyor=mine, set_as_current=False)
    app.task(shared=False, name="shop.add")(_add)
    with mine.testing() as kit:
        result = app.tasks["shop.add"].delay(1, 2)
        kit.drain()
        assert result.get(timeout=1) == 3


def test_the_example_runs(tmp_path: Path) -> None:
    environment = {**os.environ, "CONVEYOR_URL": f"sqlite:///{tmp_path}/shop.db", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "conveyor", "work", "shop:worker"]
    with (tmp_path / "work.log").open("wb") as log:
        work = subprocess.Popen(command, cwd=EXAMPLE, env=environment, stdout=log, stderr=log)
    try:
        order = [sys.executable, "-W", "error", "order.py"]
        done = subprocess.run(
            order, cwd=EXAMPLE, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        work.send_signal(signal.SIGTERM)
        assert work.wait(timeout=60) == 0
    assert done.stdout == "5 9 example.org after 1 retry SUCCESS\nLookupError FAILURE\n", done.stderr
