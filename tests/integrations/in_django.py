"""Django's tasks on conveyor, looked at from inside of a project: run by test_django in a process of its own, since a
process has one Django, and by its name, which tasks go by: `python -c "import in_django; ..." STORE_URL DATABASE_URL`."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings

URL, DATABASE = sys.argv[1:3]


def _database() -> dict[str, Any]:
    parts = urlsplit(DATABASE)
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": parts.path[1:]}
    where = {"HOST": parts.hostname, "PORT": parts.port, "USER": parts.username, "NAME": parts.path.strip("/")}
    return {"ENGINE": "django.db.backends.postgresql", **where}


BACKEND = "conveyor.integrations.django.ConveyorBackend"
settings.configure(
    USE_TZ=True, DATABASES={"default": _database()}, INSTALLED_APPS=[] if django.VERSION >= (6,) else ["django_tasks"],
    TASKS={
        "default": {"BACKEND": BACKEND, "QUEUES": ["default", "slow"], "OPTIONS": {"url": URL}},
        "wrong": {"BACKEND": BACKEND, "QUEUES": ["a b"]},
        "odd": {"BACKEND": BACKEND, "OPTIONS": {"retries": 3}},
        "astray": {"BACKEND": BACKEND, "OPTIONS": {"database": "elsewhere"}},
        "forgetful": {"BACKEND": BACKEND, "OPTIONS": {"url": "memory://"}},
        "nowhere": {"BACKEND": BACKEND, "QUEUES": []},
    },
)  # fmt: skip
django.setup()

from django.core import checks  # noqa: E402  # Django is set up first
from django.db import connection, connections, transaction  # noqa: E402  # Django is set up first
from django.utils import timezone  # noqa: E402  # Django is set up first

from conveyor.integrations.celery import Celery  # noqa: E402  # Django is set up first

tasks = importlib.import_module("django.tasks" if django.VERSION >= (6,) else "django_tasks")
exceptions = importlib.import_module(f"{tasks.__name__}.exceptions")
signals = importlib.import_module(f"{tasks.__name__}.signals")

task: Callable[..., Callable[[Callable[..., Any]], Any]] = tasks.task
seen: list[Any] = []


@task()
def note(value: Any, twice: bool = False) -> Any:
    seen.append(value)
    return [value, value] if twice else value


@task(queue_name="slow", priority=-50)
async def wait(value: int) -> int:
    return value + 1


@task(takes_context=True)
def tell(context: Any) -> list[Any]:
    return [context.attempt, context.task_result.id, str(context.task_result.status)]


class OutOfStockError(Exception):
    """The project's own."""


@task()
def fail() -> None:
    raise OutOfStockError("no lamps")


backend: Any = tasks.task_backends["default"]
app = backend.home.app


def check_results(kit: Any) -> None:
    result = note.enqueue([1, {"a": None}], twice=True)
    assert (result.status, result.is_finished, result.attempts) == ("READY", False, 0)
    assert note.get_result(result.id).args == [[1, {"a": None}]]
    kit.drain()
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == ("SUCCESSFUL", [[1, {"a": None}]] * 2, 1)
    assert (result.args, result.kwargs) == ([[1, {"a": None}]], {"twice": True})
    assert None not in (result.enqueued_at, result.started_at, result.finished_at, result.last_attempted_at)
    later = asyncio.run(wait.aenqueue(1))
    kit.assert_enqueued("slow", priority=2)
    kit.drain()
    assert asyncio.run(wait.aget_result(later.id)).return_value == 2
    told = tell.enqueue()
    kit.drain()
    told.refresh()
    assert told.return_value == [1, told.id, "RUNNING"]
    moved = note.using(queue_name="slow", priority=100).enqueue(5)
    kit.assert_enqueued("slow", priority=9, count=1)
    kit.drain()
    moved.refresh()
    assert (moved.return_value, note.get_result(moved.id).task.queue_name) == (5, "slow")


def check_failures(kit: Any) -> None:
    failed = fail.enqueue()
    kit.drain(within="1h")
    failed.refresh()
    assert (failed.status, failed.attempts) == ("FAILED", 1)
    assert failed.errors[0].exception_class is OutOfStockError
    assert "no lamps" in failed.errors[0].traceback
    for id in ("0" * 32, "no id"):
        _raises(exceptions.TaskResultDoesNotExist, backend.get_result, id)
    _raises(exceptions.TaskResultMismatch, note.get_result, failed.id)
    _raises(TypeError, note.enqueue, object())
    kit.assert_not_enqueued("default")
    old = note.enqueue(1)
    kit.drain()
    kit.travel("8d")
    _raises(exceptions.TaskResultDoesNotExist, backend.get_result, old.id)


def check_moments(kit: Any) -> None:
    seen.clear()
    note.using(run_after=kit.now + dt.timedelta(minutes=5)).enqueue("soon")
    note.using(run_after=kit.now + dt.timedelta(hours=30)).enqueue("late")
    kit.drain()
    kit.travel("5m")
    kit.drain()
    assert seen == ["soon"]
    for _ in range(2):
        kit.travel("14h")
        kit.drain()
    assert seen == ["soon"]
    kit.travel("2h")
    kit.drain()
    assert seen == ["soon", "late"]


def check_validation(_kit: Any) -> None:
    invalid = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
    _raises(invalid, lambda: note.using(priority=101))
    _raises(invalid, lambda: note.using(queue_name="elsewhere"))
    _raises(invalid, lambda: note.using(run_after=timezone.now().replace(tzinfo=None)))
    levels = [_level(priority) for priority in (-100, -99, -1, 0, 1, 25, 26, 100)]
    assert levels == [0, 0, 4, 5, 6, 6, 7, 9], levels


def check_celery_beside(_kit: Any) -> None:
    """Its tasks run in threads that live on, with connections that are looked after as Django's own."""
    bridge = Celery("celery", set_as_current=False)
    held: list[Any] = []

    @bridge.task(shared=False, name="celery_beside")
    def ask() -> bool:
        connection.ensure_connection()
        held.append(connections["default"])
        return held[0].connection is not None

    os.environ["DJANGO_SETTINGS_MODULE"] = "in_django"
    try:
        with bridge.conveyor.testing() as kit:
            result = ask.delay()
            kit.drain()
            assert result.get(timeout=1) is True
    finally:
        del os.environ["DJANGO_SETTINGS_MODULE"]
    assert held[0].connection is None


def check_signals(kit: Any) -> None:
    heard: list[str] = []

    def hear(signal: Any, task_result: Any, **_more: Any) -> None:
        heard.append(str(task_result.status))

    for signal in (signals.task_enqueued, signals.task_started, signals.task_finished):
        signal.connect(hear)
    note.enqueue(1)
    fail.enqueue()
    kit.drain()
    assert heard == ["READY", "READY", "RUNNING", "SUCCESSFUL", "RUNNING", "FAILED"], heard


def check_system_checks() -> None:
    found = sorted(f"{each.id} {each.msg}" for each in checks.run_checks() if str(each.id).startswith("conveyor"))
    assert [each[:13] for each in found] == [
        "conveyor.E001", "conveyor.E001", "conveyor.E002", "conveyor.E003", "conveyor.W001"
    ], found  # fmt: skip
    assert any("a b" in each for each in found), found
    assert any("retries" in each for each in found), found


def check_transactions() -> None:
    """On the real store: rolled back it is not there, committed it is; before that nobody sees it."""

    def there() -> int:
        return int(app.run_sync(app.queue("default").metrics()).backlog_messages)

    before = there()
    try:
        with transaction.atomic():
            gone = note.enqueue("rolled back")
            raise KeyError
    except KeyError:
        pass
    _raises(exceptions.TaskResultDoesNotExist, backend.get_result, gone.id)
    with transaction.atomic():
        kept = note.enqueue("committed")
        _raises(exceptions.TaskResultDoesNotExist, backend.get_result, kept.id)
    kept.refresh()
    assert (kept.status, kept.args, there()) == ("READY", ["committed"], before + 1)
    is_shared = URL.startswith("postgresql") and DATABASE.startswith("postgresql") and URL.split("?")[0] == DATABASE
    assert backend.home.joins is (is_shared or (False if _both_postgres() else None)), backend.home.joins


def _both_postgres() -> bool:
    return URL.startswith("postgresql") and DATABASE.startswith("postgresql")


def _level(priority: int) -> int:
    from conveyor.integrations.django.backend import level_of

    return level_of(priority)


def _raises(kind: type[BaseException], call: Any, *arguments: Any) -> None:
    try:
        call(*arguments)
    except kind:
        return
    raise AssertionError(f"{call} should raise {kind.__name__}")


def main() -> None:
    for check in (check_results, check_failures, check_moments, check_validation, check_signals, check_celery_beside):
        with app.testing() as kit:
            check(kit)
    check_system_checks()
    check_transactions()
    print("all is well")
