"""`python manage.py conveyor_work`: the project's tasks, under conveyor's supervisor."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from conveyor.integrations.django.home import load_project_app

TARGET = "conveyor.integrations.django:app"


class Command(BaseCommand):
    """Becomes `conveyor work`, which restarts workers that die; the settings module goes along in the environment."""

    help = "Runs the project's tasks (as `conveyor work conveyor.integrations.django:app`)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--processes", "-p", type=int, default=1, help="Worker processes.")
        parser.add_argument("--concurrency", "-c", type=int, default=100, help="Tasks at a time in each.")
        parser.add_argument("--queues", "-q", default="", help="Only these queues, with commas between.")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        app = load_project_app()
        words = ["--processes", str(options["processes"]), "--concurrency", str(options["concurrency"])]
        words += ["--queues", options["queues"]] if options["queues"] else []
        command = [sys.executable, "-m", "conveyor", "work", TARGET, *words, "--url", app.url]
        os.execv(sys.executable, command)
