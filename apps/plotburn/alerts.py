"""Dead letters: each ends its movie as failed, leaves a line, and is told to a webhook if there is one."""

import httpx2
import msgspec

from conveyor import DeadLetterAlert

from .bulletin import Bulletin
from .errors import PlotburnError
from .journal import Journal
from .movie import Outcome
from .runs import Runs


class MovieHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """What a movie's message carries outside its body, so that an alert can name it."""

    run: str
    movie_id: str
    title: str = "a movie"


class WebhookError(PlotburnError):
    """The webhook did not take the alert; the alert will come again."""


class Alerts:
    """Hears of dead letters, at least once each."""

    def __init__(
        self, runs: Runs, journal: Journal, bulletin: Bulletin, client: httpx2.AsyncClient, webhook: str
    ) -> None:
        self._runs = runs
        self._journal = journal
        self._bulletin = bulletin
        self._client = client
        self._webhook = webhook

    async def hear(self, alert: DeadLetterAlert) -> None:
        """The run first, the world after: a webhook that is down holds up no run."""
        movie = _movie_of(alert)
        run, title = (movie.run, movie.title) if movie else ("alerts", f"message {alert.message_id}")
        cause = f"{alert.reason}: {alert.error}" if alert.error else alert.reason
        await self._journal.error(run, f"[Alert][{run}] ✗ {title}: dead after {alert.attempts} attempts ({cause})")
        if movie is not None and await self._runs.end_movie(run, int(movie.movie_id), Outcome.FAILED):
            await self._bulletin.publish(run)
        if self._webhook:
            await self._tell(alert)

    async def _tell(self, alert: DeadLetterAlert) -> None:
        headers = {"idempotency-key": alert.message_id}
        body = {"app": "plotburn", **msgspec.to_builtins(alert)}
        try:
            response = await self._client.post(self._webhook, json=body, headers=headers, follow_redirects=False)
        except httpx2.HTTPError as error:
            raise WebhookError(f"the alert webhook cannot be reached: {type(error).__name__}") from error
        if not response.is_success:
            raise WebhookError(f"the alert webhook answered {response.status_code}")


def _movie_of(alert: DeadLetterAlert) -> MovieHeaders | None:
    """Whose message it was; one that came from elsewhere belongs to no run."""
    try:
        movie = msgspec.convert(alert.headers, MovieHeaders)
    except msgspec.ValidationError:
        return None
    return movie if movie.movie_id.isascii() and movie.movie_id.isdigit() else None
