"""Alarms: rung once their moment has come, parked when they fail, armed again."""

from __future__ import annotations

import pytest

from conveyor import AlarmRun, AlarmState, ConflictError, Conveyor, Reject
from kit.programs import until, working

pytestmark = pytest.mark.anyio


async def test_parked_and_armed_again(app: Conveyor) -> None:
    rung: list[tuple[str, int]] = []
    healthy = False

    @app.alarm_handler()
    async def ring(alarm: AlarmRun) -> None:
        rung.append((alarm.name, alarm.attempt))
        if not healthy:
            raise Reject("cannot")

    async with working(app):
        alarm = app.alarm("cart-1")
        await alarm.set("0.1s")

        async def is_parked() -> bool:
            info = await alarm.info()
            return info is not None and info.state is AlarmState.PARKED

        await until(is_parked)
        info = await alarm.info()
        assert info is not None and "cannot" in (info.error or "") and info.next is None
        healthy = True
        await alarm.rearm()
        await until(lambda: len(rung) == 2)

        async def is_gone() -> bool:
            return await alarm.info() is None

        await until(is_gone)
        assert rung == [("cart-1", 1), ("cart-1", 1)]


async def test_set_again_and_cancelled(app: Conveyor) -> None:
    rung: list[str] = []

    @app.alarm_handler("cart-*")
    async def ring(alarm: AlarmRun) -> None:
        rung.append(alarm.name)

    async with app:  # nobody works yet, so nothing rings before it is replaced or cancelled
        await app.alarm("cart-1").set("0.2s")
        await app.alarm("cart-1").set("1h")
        await app.alarm("cart-2").set("0.3s")
        assert await app.alarm("cart-2").cancel() and not await app.alarm("cart-2").cancel()
        with pytest.raises(ConflictError):
            await app.alarm("cart-1").rearm()
        await app.alarm("cart-3").set("0.4s")
    async with working(app):
        await until(lambda: rung)
        await app.alarm("cart-4").set("0.1s")
        await until(lambda: "cart-4" in rung)
        assert rung == ["cart-3", "cart-4"]
        info = await app.alarm("cart-1").info()
        assert info is not None and info.state is AlarmState.SCHEDULED
