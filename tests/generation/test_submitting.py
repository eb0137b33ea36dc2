"""Who may send an order, and what of an order that was not taken: each costs money, and none is sent twice."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor import Conveyor
from conveyor_apps.generation.ledger import Ledger
from conveyor_apps.generation.limits import CONNECT_S_MAX, MARGIN_S, ProviderLimits
from conveyor_apps.generation.logbook import Logbook, LogLevel, LogStyle
from conveyor_apps.generation.provider_errors import ProviderError, ProviderLimitedError, SubmissionInDoubtError
from conveyor_apps.generation.records import Generation, GenerationRequest, ProviderName, SubmissionState
from conveyor_apps.generation.submitting import Submitter
from conveyor_apps.generation.video import Media, Progress, Running, VideoOrder
from conveyor_apps.tables import Database, read_statements

pytestmark = pytest.mark.anyio

TURN_MS = round((MARGIN_S - CONNECT_S_MAX) * 1000)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Provider:
    """Takes every order, unless it is told to raise something first."""

    name = ProviderName.OMNI

    def __init__(self) -> None:
        self.orders: list[VideoOrder] = []
        self.raises: Exception | None = None

    async def submit(self, order: VideoOrder) -> str:
        self.orders.append(order)
        if self.raises is not None:
            raise self.raises
        return f"operation-{len(self.orders)}"

    async def poll(self, operation: str) -> Progress:
        return Running()

    def download(self, operation: str) -> AsyncIterator[Media]:
        raise NotImplementedError


class House:
    """A ledger with one generation, and a submitter on a clock that the test moves."""

    def __init__(self, ledger: Ledger, app: Conveyor, generation: Generation) -> None:
        self.ledger, self.generation, self.provider = ledger, generation, Provider()
        self.moments: list[int] = []
        limits = ProviderLimits(app.limiter, "1000/m", self.now_ms)
        log = Logbook(self.now_ms, style=LogStyle.JSON, least=LogLevel.ERROR, write=lambda _line: None)
        self.submitter = Submitter(ledger, limits, log, self.now_ms)

    def now_ms(self) -> int:
        return self.moments.pop(0) if self.moments else 0

    async def submit(self, number: int = 1) -> str:
        return (await self.submitter.submit(self.generation, number, self.provider)).operation  # type: ignore[arg-type]  # it downloads nothing


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = Database(tmp_path / "g.db", read_statements("conveyor_apps.generation", "ledger.sql"), lambda: 1_000)
    await database.open()
    ledger = Ledger(database, lambda: secrets.token_hex(8))
    request = GenerationRequest(user_id="u", prompt="a paper boat")
    generation, _ = await ledger.add("g1", request, ProviderName.OMNI, "omni", None)
    await ledger.start("g1", run=0, attempt=1, job_id="j1")
    try:
        async with Conveyor("films", url="memory://", wrangler=None) as app:
            yield House(ledger, app, generation)
    finally:
        await database.close()


async def test_an_order_that_was_taken_is_not_sent_again(house: House) -> None:
    assert await house.submit() == "operation-1"
    assert await house.submit() == "operation-1"
    assert len(house.provider.orders) == 1


async def test_whoever_was_not_first_sends_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two look at once, and both see that nothing was sent."""
    look, is_first = house.ledger.submission, iter([True])

    async def look_early(id: str) -> object:
        found = await look(id)
        if next(is_first, False):
            assert await house.ledger.begin_submission(id, 1)
        return found

    monkeypatch.setattr(house.ledger, "submission", look_early)
    with pytest.raises(SubmissionInDoubtError):
        await house.submit()
    assert house.provider.orders == []


async def test_after_a_refusal_the_next_try_sends_another(house: House) -> None:
    house.provider.raises = ProviderError(ProviderName.OMNI, "not today")
    with pytest.raises(ProviderError, match="not today"):
        await house.submit()
    present = await house.ledger.submission("g1")
    assert (present.number, present.state) == (2, None)
    house.provider.raises = None
    assert await house.submit(2) == "operation-2"
    assert [order.client_id for order in house.provider.orders] == ["g1-1", "g1-2"]


async def test_an_order_of_which_nobody_knows_is_not_sent_again(house: House) -> None:
    house.provider.raises = SubmissionInDoubtError(ProviderName.OMNI, "cut")
    for _ in range(2):
        with pytest.raises(SubmissionInDoubtError):
            await house.submit()
    assert (await house.ledger.submission("g1")).state is SubmissionState.BEGUN
    assert len(house.provider.orders) == 1


async def test_a_turn_that_came_and_went_is_not_used(house: House) -> None:
    house.moments = [0, 0, TURN_MS + 1]  # it is given, it begins, it sets out
    with pytest.raises(ProviderLimitedError, match="came and went"):
        await house.submit()
    assert house.provider.orders == []
    house.moments = [0, 0, TURN_MS]
    assert await house.submit(2) == "operation-1"
