"""A Django project in one file: its tasks go to conveyor."""

import os
from pathlib import Path

import django

HERE = Path(__file__).resolve().parent
SECRET_KEY = "an example's"  # noqa: S105  # nothing is signed with it
USE_TZ = True
INSTALLED_APPS = ["shop", "conveyor.integrations.django"]
if django.VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")  # the backport
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SHOP_DATABASE", "shop.db")}}
TASKS = {
    "default": {
        "BACKEND": "conveyor.integrations.django.ConveyorBackend",
        "QUEUES": ["default", "mails"],
        "OPTIONS": {"max_retries": 1, "backoff": "100ms"},
    }
}
