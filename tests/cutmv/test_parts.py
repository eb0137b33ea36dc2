"""Cutmv's parts by themselves: settings, signatures, progress, expiry."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from conveyor_apps.cutmv import Settings, build_cutmv, read_settings
from conveyor_apps.cutmv.__main__ import plan
from conveyor_apps.cutmv.cleaning import HOUR_MS
from conveyor_apps.cutmv.clock import now_ms
from conveyor_apps.cutmv.errors import RefusedError, SettingError
from conveyor_apps.cutmv.ffmpeg import find_tools
from conveyor_apps.cutmv.orders import State, Way, new_order_id
from conveyor_apps.cutmv.progress import ProgressReader
from conveyor_apps.cutmv.reports import Kind, Report
from conveyor_apps.cutmv.signing import is_signed, kept_secret, read_secret, sign
from conveyor_apps.cutmv.uploads import UploadState
from conveyor_apps.cutmv.words import Clip, Format, Media, Order, Wish, output_key, part_key
from conveyor_apps.cutmv.workfolder import sweep, work_folder
from conveyor_apps.cutmv.workshop import read_file
from cutmv.kit import TOOLS, leftovers, size_of

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_progress_is_true_and_never_goes_back() -> None:
    reader = ProgressReader(10)
    for line in ("frame=0", "out_time_us=N/A", "speed=N/A", "progress=continue"):
        reader.feed(line)
    assert (reader.latest.fraction, reader.latest.speed) == (0, None)
    for time, fraction in (("2500000", 0.25), ("1000000", 0.25), ("-5", 0.25), ("9000000", 0.9), ("99000000", 1.0)):
        for line in (f"out_time_us={time}", "speed=1.5x", "progress=continue"):
            reader.feed(line)
        assert reader.latest.fraction == pytest.approx(fraction)
    assert reader.latest.speed == 1.5
    old = ProgressReader(10)
    for line in ("out_time_ms=5000000", "progress=continue"):
        old.feed(line)
    assert old.latest.fraction == 0.5, "microseconds, whatever its name says"
    old.feed("progress=end")
    assert (old.latest.fraction, old.reached_s) == (1, 5)


def test_a_missing_ffmpeg_is_named_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor_apps.programs._of_wheel", lambda: None)
    with pytest.raises(SettingError, match="pip install 'conveyor\\[cutmv\\]'.*apt install ffmpeg"):
        find_tools({"PATH": "/nowhere"})
    with pytest.raises(SettingError, match="`CUTMV_FFMPEG` is `/nowhere/ffmpeg`"):
        find_tools({"PATH": "/nowhere", "CUTMV_FFMPEG": "/nowhere/ffmpeg"})


def test_the_documents_three_variables_choose_the_queue() -> None:
    three = {"CLOUDFLARE_ACCOUNT_ID": "a" * 32, "CLOUDFLARE_API_TOKEN": "canary", "CLOUDFLARE_QUEUE_NAME": "films"}
    tools = {"CUTMV_FFMPEG": TOOLS.ffmpeg}
    command, environment = plan([], {**three, **tools})
    assert command[1:] == ["-m", "conveyor", "serve", "conveyor_apps.cutmv:app"]
    assert json.loads(environment["CONVEYOR_ROUTES"]) == {"films": "cloudflare"}
    assert "canary" not in environment["CONVEYOR_STORES"]
    assert plan(["work", "--processes", "2"], {**three, **tools})[0][3:] == [
        "work", "conveyor_apps.cutmv:app", "--queues", "films", "--processes", "2",
    ]  # fmt: skip
    for given in (["--port", "9000"], ["serve", "--port=9000"]):
        assert plan(given, tools)[1]["CONVEYOR_PORT"] == "9000"
    for missing in three:
        rest = {name: value for name, value in three.items() if name != missing}
        assert read_settings(rest).cloudflare is None
        assert "CONVEYOR_ROUTES" not in plan([], {**rest, **tools})[1]
    with pytest.raises(SettingError, match="`CUTMV_WORKERS` is `many`"):
        read_settings({"CUTMV_WORKERS": "many"})


def test_reports_are_signed_as_the_standard_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, body = read_secret(SECRET), b'{"order": "x"}'
    headers = sign(key, body)
    Webhook(SECRET).verify(body, headers)
    assert is_signed(key, headers, body)
    assert not is_signed(key, headers, body + b" ")
    assert not is_signed(bytes(32), headers, body)
    signed_ms = now_ms()
    for seconds, is_good in ((290, True), (310, False), (-290, True), (-310, False)):
        with monkeypatch.context() as patch:
            patch.setattr("conveyor_apps.cutmv.clock.now_ms", lambda at=signed_ms + seconds * 1000: at)
            assert is_signed(key, headers, body) is is_good
    for name in headers:
        assert not is_signed(key, {**headers, name: "\u00b2"}, body)
        assert not is_signed(key, {other: value for other, value in headers.items() if other != name}, body)
    theirs = Webhook(SECRET).sign("msg_1", datetime.now(UTC), body.decode())
    given = {"webhook-id": "msg_1", "webhook-timestamp": str(now_ms() // 1000), "webhook-signature": theirs}
    assert is_signed(key, given, body)
    made = kept_secret(tmp_path / "data" / "secret")
    assert kept_secret(tmp_path / "data" / "secret") == made
    assert (tmp_path / "data" / "secret").stat().st_mode & 0o077 == 0
    with pytest.raises(SettingError, match="CUTMV_WEBHOOK_SECRET"):
        read_secret("short")


def test_folders_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    with work_folder(tmp_path) as living:
        dead = tmp_path / "cutmv-dead"
        (dead / "work").mkdir(parents=True)
        (dead / "work" / "source").write_bytes(b"x")
        (dead / "lock").touch()
        assert sweep(tmp_path) == 1
        assert not dead.exists()
        assert living.exists()
    assert list(tmp_path.iterdir()) == []


MEDIA = Media(container="mov", duration_s=60, video=0, audio=1, width=320, height=180, fps=25)
WISH = Wish(clips=[Clip(start=0, end=1)], formats=[Format.MP4, Format.MP3])


@pytest.mark.anyio
async def test_what_is_old_goes_from_tables_and_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cutmv = build_cutmv(Settings(data=tmp_path / "data", keep_hours=1), url=f"sqlite:///{tmp_path}/c.db")
    async with cutmv.app:
        room = cutmv.doorway.room()
        room.is_serving = True
        upload = await room.uploads.begin("x", 10)
        await room.bucket.put(part_key(upload.id, 0), b"0123456789")
        old, stuck = (Order(id=new_order_id(), upload=upload.id, size=10, media=MEDIA, wish=WISH) for _ in range(2))
        for order in (old, stuck):
            await room.orders.add(order)
        await room.bucket.put(output_key(old.id, "clip-01.mp4"), b"x")
        await room.bucket.put("orders/nobody/clip-01.mp4", b"x")
        await room.orders.cancel(old.id)
        assert await room.cleaning.run() == {"silent": 0, "orders": 0, "uploads": 0, "objects": 0, "folders": 0}

        later = now_ms() + 2 * HOUR_MS
        monkeypatch.setattr("conveyor_apps.cutmv.clock.now_ms", lambda: later)
        cleaned = await room.cleaning.run()
        assert cleaned == {"silent": 1, "orders": 2, "uploads": 1, "objects": 1, "folders": 0}
        assert (await room.bucket.list()).objects == []
        assert await room.orders.view(old.id) is None


@pytest.mark.anyio
async def test_reports_go_forward_only_and_the_late_are_told_to_stop(tmp_path: Path) -> None:
    cutmv = build_cutmv(Settings(data=tmp_path / "data"), url=f"sqlite:///{tmp_path}/c.db")
    async with cutmv.app:
        orders = cutmv.doorway.room().orders
        order = Order(id=new_order_id(), upload="u", size=1, media=MEDIA, wish=WISH)
        await orders.add(order)

        async def take(kind: Kind, *, way: Way = Way.QUEUE, generation: int = 1, **facts: object) -> bool:
            return await orders.take(Report(order=order.id, generation=generation, kind=kind, **facts), way=way)  # type: ignore[arg-type]  # facts by name

        assert not await take(Kind.STARTED)
        for fraction, seen in ((0.5, 0.5), (0.2, 0.5), (7.0, 0.99), (-1.0, 0.99)):
            assert not await take(Kind.PROGRESS, output="clip-01.mp4", fraction=fraction)
            view = await orders.view(order.id)
            assert view is not None
            assert view.outputs[0].fraction == seen
        assert not await take(Kind.PROGRESS, output="../x", fraction=1)
        assert not await take(Kind.DONE), "one output is not here"
        assert (await orders.view(order.id)).state is State.RUNNING  # type: ignore[union-attr]  # it is there
        for name in ("clip-01.mp4", "clip-01.mp3"):
            assert not await take(Kind.OUTPUT, output=name, size=5)
        assert not await take(Kind.DONE)
        assert await take(Kind.DONE), "it is over"
        assert await take(Kind.STARTED, generation=2)
        view = await orders.view(order.id)
        assert view is not None
        assert (view.state, view.fraction, view.error) == (State.SUCCEEDED, 1.0, None)
        [(seq, text)] = await orders.events_after(order.id, view.seq - 1)
        assert (seq, json.loads(text)["state"]) == (view.seq, "succeeded")
        assert await orders.events_after(order.id, view.seq) == []


@pytest.mark.anyio
async def test_of_two_who_work_on_an_order_and_of_two_tries_only_the_right_one_is_heard(tmp_path: Path) -> None:
    cutmv = build_cutmv(Settings(data=tmp_path / "data"), url=f"sqlite:///{tmp_path}/c.db")
    async with cutmv.app:
        orders = cutmv.doorway.room().orders
        order = Order(id=new_order_id(), upload="u", size=1, media=MEDIA, wish=WISH)
        await orders.add(order)
        await orders.set_way(order, Way.DIRECT)
        started = Report(order=order.id, generation=1, kind=Kind.STARTED)
        assert await orders.take(started, way=Way.QUEUE), "it was sent after all, and the server is at it"
        assert not await orders.take(started, way=Way.DIRECT)
        await orders.fail(order.id, "no")
        await orders.again(order.id)
        assert await orders.take(started, way=Way.DIRECT), "that is the former try"
        view = await orders.view(order.id)
        assert view is not None
        assert view.state is State.QUEUED


@pytest.mark.anyio
async def test_there_may_be_too_much_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor_apps.cutmv.orders.UNDER_WAY_MAX", 2)
    cutmv = build_cutmv(Settings(data=tmp_path / "data"), url=f"sqlite:///{tmp_path}/c.db")
    async with cutmv.app:
        orders = cutmv.doorway.room().orders
        first, second, third = (Order(id=new_order_id(), upload="u", size=1, media=MEDIA, wish=WISH) for _ in range(3))
        await orders.add(first)
        await orders.add(second)
        with pytest.raises(RefusedError, match="too much to do"):
            await orders.add(third)
        assert await orders.view(third.id) is None
        await orders.cancel(first.id)
        await orders.add(third)


@pytest.mark.anyio
async def test_worker_and_server_in_one_process(tmp_path: Path, film: Path) -> None:
    """No webhook has anywhere to go: progress comes by hand."""
    settings = Settings(data=tmp_path / "data", webhook_url="http://127.0.0.1:9")
    cutmv = build_cutmv(settings, url=f"sqlite:///{tmp_path}/c.db")
    async with cutmv.app:
        room = cutmv.doorway.room()
        await room.start_serving()
        working = asyncio.create_task(cutmv.app.work())
        upload = await room.uploads.begin("film", size_of(film))
        found = await room.uploads.receive(upload.id, 0, read_file(film))
        async with asyncio.timeout(60):
            while found.state is UploadState.EXAMINING:
                await asyncio.sleep(0.05)
                found = await room.uploads.find(upload.id)
            assert found.media is not None
            order = Order(id=new_order_id(), upload=upload.id, size=upload.size, media=found.media, wish=WISH)
            await room.orders.add(order)
            mailbox = room.hub.open()
            room.hub.watch(mailbox, order.id)
            mailbox.release(order.id, [])
            await room.dispatch.submit(order)
            states: list[str] = []
            while not states or not State(states[-1]).is_final:
                letter = await mailbox.letters.get()
                assert letter is not None
                states.append(json.loads(letter[2])["state"])
        assert (states[0], states[-1]) == ("running", "succeeded")
        working.cancel()
        await asyncio.wait({working})
        await room.stop_serving()
    assert leftovers(tmp_path / "data") == []
