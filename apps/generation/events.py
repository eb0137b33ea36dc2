"""The events that Next.js is told of, with the document's bodies."""

from enum import StrEnum
from typing import Any

from .records import Generation, State


class Event(StrEnum):
    """What happened, as the body's `event` says it."""

    STARTED = "generation.started"
    COMPLETED = "generation.completed"
    FAILED = "generation.failed"
    CANCELLED = "generation.cancelled"


def body_of(event: Event, generation: Generation, timestamp: str) -> dict[str, Any]:
    """The body: `result` where there is one, `error` as text where it failed. To the document a job's id is its
    generation's."""
    body: dict[str, Any] = {
        "event": event.value,
        "jobId": generation.id,
        "generationId": generation.id,
        "userId": generation.user_id,
        "status": State.PROCESSING.value if event is Event.STARTED else generation.state.value,
    }
    if event is Event.COMPLETED and generation.result is not None:
        body["result"] = {
            "videoUrl": generation.result.video_url,
            "duration": generation.result.duration,
            "processingTime": generation.result.processing_time,
        }
    if event is Event.FAILED and generation.error is not None:
        body["error"] = generation.error.message
        body["code"] = generation.error.code
    return body | {"timestamp": timestamp}
