"""`python manage.py order ITEM`: enqueues, waits, and says what came of it."""

import json
import time
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from shop.tasks import break_it, price, send_mail


class Command(BaseCommand):
    """Orders something."""

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("item")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        with transaction.atomic():  # nothing is enqueued if this is rolled back
            results = [send_mail.enqueue("ann"), price.enqueue(options["item"]), break_it.enqueue(options["item"])]
        for result in results:
            while not result.is_finished:
                time.sleep(0.05)
                result.refresh()
            said = result.errors[-1].traceback if result.errors else json.dumps(result.return_value)
            self.stdout.write(f"{result.task.name} {result.status} after {result.attempts}: {said}")
