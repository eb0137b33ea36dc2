"""Django's tasks on conveyor: `TASKS = {"default": {"BACKEND": "conveyor.integrations.django.ConveyorBackend"}}`.

`python manage.py conveyor_work` runs them, if this is one of INSTALLED_APPS; so does `conveyor work
conveyor.integrations.django:app`, where DJANGO_SETTINGS_MODULE is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conveyor.integrations.django.backend import ConveyorBackend

if TYPE_CHECKING:
    from conveyor.app import Conveyor

    app: Conveyor

__all__ = ["ConveyorBackend", "app"]


def __getattr__(name: str) -> object:
    """`app`: the one behind the default backend, with all tasks of the project."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from conveyor.integrations.django.home import load_project_app

    return load_project_app()
