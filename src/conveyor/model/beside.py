"""Errors of the rooms beside the belt, with a place in the tree of model/errors.py."""

from __future__ import annotations

from conveyor.model.errors import ConflictError, NotFoundError


class AlarmNotFoundError(NotFoundError):
    code = "alarm_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"no alarm is named `{name}`", hint="see `conveyor alarms list`", name=name)


class AlarmTakenError(ConflictError):
    code = "alarm_taken"

    def __init__(self, name: str, queue: str) -> None:
        super().__init__(
            f"alarm `{name}` rings in queue `{queue}`",
            hint="alarms' names are global in a store: choose another, or cancel that one",
            name=name,
            queue=queue,
        )
