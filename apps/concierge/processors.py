"""What is done for a job of each type. A failure is raised as one of `errors`; what it means to the queue is said in
`wiring.py`."""

from typing import Final, assert_never

from .cleanup import run_cleanup
from .context import Context
from .deliveries import Carrier, Later, Stop
from .errors import DeliveryError, PermanentError
from .exports import run_export
from .jobs import CleanupJob, EmailJob, ExportJob, Job, SmsJob
from .providers import Parcel, ProviderBusyError, RestingError, Taken
from .words import Channel

__all__ = ["process"]

WAIT_S: Final = 10.0


async def process(job: Job, context: Context, carrier: Carrier) -> Later | None:
    """Do it; `Later` if it is too early, or nobody can do it now: that is no attempt.

    `TemporaryError` and `UnknownError` where another attempt may help, also
    whatever else is raised; what can never be done is recorded, and raises nothing."""
    match job:
        case EmailJob() | SmsJob():
            return await _send(job, context, carrier)
        case ExportJob():
            await run_export(job, context)
        case CleanupJob():
            await run_cleanup(job, context)
        case _:
            assert_never(job)
    return None


async def _send(job: EmailJob | SmsJob, context: Context, carrier: Carrier) -> Later | None:
    begun = await context.deliveries.begin(job, carrier)
    if isinstance(begun, Later):
        return begun
    if isinstance(begun, Stop):
        event = "message.refused" if begun is Stop.SUPPRESSED else "message.skipped"
        context.safety.breadcrumb(event, message=job.message_id, reason=begun.value)
        return None
    facts: dict[str, str | float] = {"message": job.message_id, "attempt": carrier.attempt, "channel": begun.channel}
    context.safety.breadcrumb("message.sending", **facts)
    try:
        taken = await _carry(begun, context)
    except PermanentError as error:
        await context.deliveries.refused(job.message_id, error, carrier)
        context.safety.breadcrumb("message.refused", **facts, reason=error.reason)
        return None
    except (ProviderBusyError, RestingError) as error:
        await context.deliveries.waits(job.message_id, error, carrier)
        return Later(round((error.after_s or WAIT_S) * 1000))
    except (DeliveryError, OSError) as error:
        context.safety.breadcrumb("message.failed", **facts, error=type(error).__name__)
        if await context.deliveries.failed(job.message_id, error, carrier):
            raise
        return None
    await context.deliveries.taken(job.message_id, taken, carrier)
    context.safety.breadcrumb("message.sent", **facts, provider=taken.provider)
    return None


async def _carry(parcel: Parcel, context: Context) -> Taken:
    send = context.providers.send_sms if parcel.channel is Channel.SMS else context.providers.send_email
    return await send(parcel)
