"""Opens the providers that the settings name, in their order, with the marks of what was begun."""

from collections.abc import Callable, Sequence
from typing import Final

from conveyor import ConveyorError, Limiter
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import SettingError
from conveyor_apps.concierge.settings import ProviderSettings, Settings
from conveyor_apps.concierge.words import Channel
from conveyor_apps.tables import Database, read_statements

from .circuit import Book, Circuit, TableBook, Terms
from .marks import Marks, TableMarks
from .parcel import Provider
from .resend import ResendProvider, ResendTerms
from .route import Route, Stop, Take
from .service import DeliveryService, Routes
from .smtp import SmtpProvider, read_mail_host
from .twilio import TwilioProvider, TwilioTerms

FILE: Final = "sendings.db"
KEEP_MS: Final = 30 * 86_400_000
"""Longer than any message is tried."""
TWILIO_PATH: Final = "/webhooks/twilio"
RESEND_PATH: Final = "/webhooks/resend"
PROBE_MORE_S: Final = 30.0
"""Beyond the longest call: by then whoever went ahead to see whether a provider is back has said so."""

NewLimiter = Callable[[str, str], Limiter]
"""`app.limiter`: a rate under a name, counted for all processes."""


async def open_providers(settings: Settings, limiter: NewLimiter) -> DeliveryService:
    """The service, with its marks and circuits in a file of concierge's folder, and its rates in the queue's store.
    `SettingError`."""
    database = Database(
        settings.data / FILE, read_statements("conveyor_apps.concierge.providers", "sendings.sql"), clock.now_ms
    )
    routes = plan_routes(settings, TableMarks(database), TableBook(database), limiter)
    await database.open()
    try:
        await TableMarks(database).forget(clock.now_ms() - KEEP_MS)
    except BaseException:
        await database.close()
        raise
    return Routes(routes, keeping=database)


def plan_routes(
    settings: Settings, marks: Marks, book: Book, limiter: NewLimiter, *, now_s: Callable[[], float] = clock.now_s
) -> dict[Channel, Route]:
    """A route for each channel that has a provider. `SettingError`."""
    providers = new_providers(settings)
    given = settings.providers
    terms = Terms(
        failures=given.circuit_failures, open_s=given.circuit_open_s, probe_s=given.timeout_s + PROBE_MORE_S
    )  # fmt: skip
    rates = {"smtp": given.smtp_rate, "resend": given.resend_rate, "twilio": given.twilio_rate}
    routes: dict[Channel, Route] = {}
    for channel in Channel:
        stops = [
            Stop(each, Circuit(each.name, book, now_s, terms), _rate_of(each.name, rates[each.name], limiter))
            for each in providers
            if each.channel is channel
        ]
        if stops:
            routes[channel] = Route(stops, marks, unknown=given.unknown)
    return routes


def _rate_of(provider: str, rate: str, limiter: NewLimiter) -> Take | None:
    if not rate:
        return None
    try:
        return limiter(f"concierge-{provider}", rate).take
    except ConveyorError as error:
        name = f"{provider.upper()}_RATE"
        raise SettingError(f'environment: `{name}` is `{rate}`: give a rate, as in "2/s"') from error


def new_providers(settings: Settings) -> Sequence[Provider]:
    """Those whose settings are there, in the order of `CONCIERGE_PROVIDERS`. `SettingError`."""
    given = settings.providers
    made: dict[str, Provider] = {}
    if given.smtp_url:
        host = read_mail_host(
            given.smtp_url.reveal(), sender=given.sender, timeout_s=given.timeout_s, authority=given.smtp_ca
        )
        made["smtp"] = SmtpProvider(host)
    if given.resend_key:
        key = given.resend_key.reveal()
        terms = ResendTerms(url=given.resend_url, key=key, sender=given.sender, timeout_s=given.timeout_s)
        made["resend"] = ResendProvider(terms)
    if given.twilio_token:
        made["twilio"] = TwilioProvider(_twilio_terms(given, settings.desk.public_url))
    unknown = [name for name in given.order if name not in {"smtp", "resend", "twilio"}]
    if unknown:
        raise SettingError("environment: `CONCIERGE_PROVIDERS` names others than smtp, resend and twilio")
    return [made[name] for name in given.order if name in made]


def _twilio_terms(given: ProviderSettings, public_url: str) -> TwilioTerms:
    if not given.twilio_account or not given.twilio_sender:
        raise SettingError("environment: `TWILIO_AUTH_TOKEN` needs `TWILIO_ACCOUNT_SID` and `TWILIO_FROM` beside it")
    return TwilioTerms(
        url=given.twilio_url,
        account=given.twilio_account,
        token=given.twilio_token.reveal(),
        sender=given.twilio_sender,
        callback=public_url + TWILIO_PATH,
        timeout_s=given.timeout_s,
    )
