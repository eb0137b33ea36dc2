"""The backend that `TASKS` names: what Django enqueues becomes a job, inside the open transaction if it can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from django.core import checks
from django.db import connections, transaction
from django.utils import timezone

from conveyor.integrations.django.api import (
    BaseTaskBackend,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    task_enqueued,
)
from conveyor.integrations.django.home import Home, home_of, register
from conveyor.integrations.django.options import check_options
from conveyor.integrations.django.results import enqueued, stored
from conveyor.integrations.foreign import Call, split_delay
from conveyor.jobs.function import JobSender
from conveyor.jobs.job import find_job, show_job
from conveyor.model.errors import InvalidTransactionError
from conveyor.model.ids import MessageId
from conveyor.model.job_errors import JobNotFoundError
from conveyor.model.message import Draft, Priority
from conveyor.store.jobs import JobFound

TIMELINE_MAX = 100


class ConveyorBackend(BaseTaskBackend):
    """Enqueues, finds results, and says what it can do."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, dict(params))

    @property
    def home(self) -> Home:
        """The app behind it. `InvalidSettingError` for options that it does not have."""
        return home_of(self.alias, self.options, self.queues, type(self))

    def validate_task(self, task: Task[Any, Any]) -> None:
        """Also how tasks become known here: Django asks where one is declared."""
        super().validate_task(task)
        register(self.alias, task)

    def enqueue(self, task: Task[Any, Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> TaskResult[Any]:
        """Inside `transaction.atomic()` it is part of the transaction, where the database is conveyor's too; where it
        is not, it is sent after the commit."""
        self.validate_task(task)
        home = self.home
        job = home.job(task)
        now_ms = home.app.store.clock.now_ms()
        due_ms = None if task.run_after is None else round(_aware(task.run_after).timestamp() * 1000)
        delay_s, rest_ms = split_delay(due_ms, now_ms)
        draft_result = enqueued(task, "", Call(list(args), dict(kwargs)), self.alias, now_ms)  # as JSON from here on
        call = Call(draft_result.args, draft_result.kwargs, rest_ms)
        priority = level_of(task.priority)
        sender = job.options(delay=delay_s, priority=priority)
        draft = sender.draft(call)
        if not self._send_in_transaction(home, job.options(delay=delay_s, priority=priority, tx=self._tx()), draft):
            send = partial(_send, home, sender, draft)
            if self._is_atomic:
                transaction.on_commit(send, using=home.options.database)
            else:
                send()
        result = enqueued(task, draft.id.hex(), call, self.alias, now_ms)
        task_enqueued.send(sender=type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any]:
        """`TaskResultDoesNotExist` also when its `result_ttl` is over."""
        home = self.home
        try:
            id = MessageId(bytes.fromhex(result_id))
            found, now_ms, attempts = home.app.run_sync(_find(home, id))
        except (ValueError, JobNotFoundError) as error:
            raise TaskResultDoesNotExist(result_id) from error
        task, record = home.find_task(found.name), found.record
        is_over = record is not None and record.result_until is not None and record.result_until <= now_ms
        if task is None or is_over:
            raise TaskResultDoesNotExist(result_id)
        if found.queue in self.queues and found.queue != task.queue_name:
            task = task.using(queue_name=found.queue)
        return stored(task, self.alias, found, show_job(found, now_ms, attempts), home.app.sealer)

    def check(self, **_options: Any) -> Iterable[checks.CheckMessage]:
        """For `manage.py check`."""
        return check_options(self.alias, self.options, self.queues)

    @property
    def _is_atomic(self) -> bool:
        database = self.home.options.database
        return database is not None and bool(connections[database].in_atomic_block)

    def _tx(self) -> Any:
        """The open transaction, if it may be one of the store's own database."""
        home = self.home
        database, is_postgres = home.options.database, home.app.url.startswith(("postgres:", "postgresql:"))
        if database is None or not is_postgres or home.joins is False or not self._is_atomic:
            return None
        connection = connections[database]
        return connection if connection.vendor == "postgresql" else None

    def _send_in_transaction(self, home: Home, sender: JobSender[Call, Any], draft: Draft) -> bool:
        """Whether it was; a database that turns out to be another is not asked again."""
        if not sender.is_joined:
            return False
        try:
            home.app.run_sync(sender.send_draft(draft))
        except InvalidTransactionError:
            if home.joins:
                raise
            home.joins = False
            return False
        home.joins = True
        return True


def level_of(priority: int) -> int:
    """Django's -100 to 100 as one of conveyor's ten levels; 0 is the usual one, and no level is on the wrong side."""
    if priority > 0:
        return int(Priority.NORMAL) + -(-priority // 25)
    return int(Priority.NORMAL) - -(priority // 20)


def _send(home: Home, sender: JobSender[Call, Any], draft: Draft) -> None:
    home.app.run_sync(sender.send_draft(draft))


async def _find(home: Home, id: MessageId) -> tuple[JobFound, int, Any]:
    await home.app.ensure_open()
    store = home.app.store
    return await find_job(store, id), store.clock.now_ms(), await store.jobs.attempts(id, limit=TIMELINE_MAX)


def _aware(moment: Any) -> Any:
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
