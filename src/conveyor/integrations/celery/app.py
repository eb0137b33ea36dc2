"""`Celery` as it is imported from here: declares and calls tasks as Celery does, and sends them as conveyor's jobs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import celery
from celery.utils.time import maybe_make_aware

from conveyor.app import Conveyor
from conveyor.integrations.celery.bridged import NotBridgedError, check_configuration, check_sent, check_task
from conveyor.integrations.celery.results import Control, Results
from conveyor.integrations.celery.running import make_runner, pack
from conveyor.integrations.foreign import Call, job_name_of, split_delay
from conveyor.jobs.function import JobFunction
from conveyor.model.settings import RETRIES_MAX

_TIMEOUT: Final = "12h"
"""Celery has none; tasks run in threads, which cannot be stopped."""


class Celery(celery.Celery):
    """A Celery app without a broker: `conveyor` is the app that its tasks are jobs of."""

    control_cls = Control  # type: ignore[assignment]  # Celery takes a class too

    def __init__(self, main: str | None = None, *, conveyor: Conveyor | None = None, **options: Any) -> None:
        for name in ("broker", "backend", "result_backend"):
            if options.get(name) is not None:
                raise NotBridgedError(name, "messages and results lie in conveyor's store: leave it out")
        super().__init__(main, **options)
        self.conveyor = conveyor or Conveyor(job_name_of(main or "celery"))
        """The app to be run: `conveyor work proj:worker`, with `worker = app.conveyor`."""
        self.conveyor.jobs.on_declare(self._find_all)
        self._jobs: dict[tuple[str, str], JobFunction[Call, Any]] = {}
        self._names: dict[str, str] = {}
        self._declaring = threading.RLock()

    def _get_backend(self) -> Results:
        return Results(self)

    def send_task(  # type: ignore[override]  # the rest of its options are in `options`
        self, name: str, args: Any = None, kwargs: Any = None, countdown: float | None = None,
        eta: datetime | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Where `delay`, `apply_async` and `self.retry` of Celery's tasks end. `NotBridgedError` names what would be
        lost on the way; the errors of `Queue.send`."""
        if (retried := self._retried(name, args, kwargs, options)) is not None:
            return retried
        expires, priority = options.pop("expires", None), options.pop("priority", None)
        task = self.tasks.get(name)
        if task is None:
            raise NotBridgedError(f'send_task("{name}")', "no task of that name is declared in this process")
        queue = self._queue_of(name, task, args, kwargs, options)
        check_sent({key: value for key, value in options.items() if type(value) is not object})
        now_ms = self._now_ms()
        due_ms = self._moment(eta, now_ms) if eta is not None else now_ms + round((countdown or 0) * 1000)
        delay_s, rest_ms = split_delay(due_ms, now_ms)
        until_ms = None if expires is None or type(expires) is object else self._moment(expires, now_ms)
        if until_ms is not None and until_ms <= now_ms:
            until_ms = now_ms + 1  # it is past: dead on arrival, and seen to be
        call = Call(pack(list(args or ())), pack(dict(kwargs or {})), rest_ms)
        job = self._job(task, queue).options(
            delay=delay_s, priority=priority, expires_in=None if until_ms is None else (until_ms - now_ms) / 1000
        )
        sent = self.conveyor.run_sync(job.enqueue(call))
        result = (options.get("result_cls") or self.AsyncResult)(sent.id)
        result.ignored = bool(options.get("ignore_result"))
        return result

    def names_near(self, job: str) -> Mapping[str, Any]:
        """The names that the task's module knows: an error is looked for there first."""
        task = self.tasks.get(self._names.get(job, job))
        known: Mapping[str, Any] = getattr(getattr(task, "__wrapped__", None), "__globals__", {})
        return known

    def _retried(self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Any:
        """`self.retry` sends the task anew by its own id, and then raises `Retry`: the verdict alone is needed."""
        task = celery.current_task
        if not options.get("retries") or not task or task.request.id != options.get("task_id") or task.name != name:
            return None
        request = task.request
        if pack(list(args or ())) != pack(list(request.args or ())) or pack(kwargs or {}) != pack(request.kwargs):
            raise NotBridgedError("args")
        return self.AsyncResult(str(request.id))

    def _queue_of(self, name: str, task: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> str:
        options.pop("routing_key", None) if options.get("routing_key") == options.get("queue") else None
        queue = options.pop("queue", None)
        if queue is None:
            route = self.amqp.router.route({}, name, args, kwargs, task_type=task)
            queue = route.get("queue") or self.conf.task_default_queue
        chosen = str(getattr(queue, "name", queue))
        if chosen not in self._queues():
            hint = "workers must know it: list it in `app.conf.task_queues`, or route a task there"
            raise NotBridgedError(f'queue="{chosen}"', hint)
        return chosen

    def _queues(self) -> set[str]:
        conf = self.conf
        listed = conf.task_queues or ()
        names = listed if isinstance(listed, Mapping) else (getattr(each, "name", each) for each in listed)
        routes = conf.task_routes.values() if isinstance(conf.task_routes, Mapping) else ()
        routed = [each.get("queue") if isinstance(each, Mapping) else each for each in routes]
        own = [getattr(task, "queue", None) for task in self.tasks.values()]
        return {str(each) for each in (conf.task_default_queue, *names, *routed, *own) if each}

    def _now_ms(self) -> int:
        return self.conveyor.store.clock.now_ms()

    def _moment(self, when: Any, now_ms: int) -> int:
        if isinstance(when, datetime):
            return round(maybe_make_aware(when, self.timezone).timestamp() * 1000)
        return now_ms + round(float(when) * 1000)

    def _find_all(self) -> None:
        """Before the worker starts: import the modules of tasks, and declare each as a job."""
        check_configuration(self.conf)
        self.loader.import_default_modules()
        self.finalize(auto=True)
        for name, task in sorted(self.tasks.items()):
            if not name.startswith("celery."):
                self._job(task, self.conf.task_default_queue)

    def _job(self, task: Any, queue: str) -> JobFunction[Call, Any]:
        with self._declaring:
            if (task.name, queue) not in self._jobs:
                self._declare(task, {*self._queues(), queue})
            return self._jobs[task.name, queue]

    def _declare(self, task: Any, queues: set[str]) -> None:
        check_task(task)
        known = {queue: job for (name, queue), job in self._jobs.items() if name == task.name}
        for queue in sorted(queues - known.keys()):
            if known:
                job = self.conveyor.jobs.also_in(queue, next(iter(known.values())))
            else:
                job = self.conveyor.job(
                    name=job_name_of(task.name), queue=queue, max_retries=RETRIES_MAX, backoff=None, timeout=_TIMEOUT,
                    result_ttl=self.conf.result_expires or "1d",
                )(make_runner(task, self._now_ms))
                self._names[job.name] = task.name
            known[queue] = self._jobs[task.name, queue] = job
            self.conveyor.declare_queue(queue)
