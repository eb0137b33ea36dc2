"""Workers that die, hang, are stopped or cannot begin, and what their supervisor makes of it. Real processes, real signals."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise

import pytest

from conveyor.queue.worker import GRACE_S
from kit.programs import insist
from kit.shop import Shop

pytestmark = pytest.mark.anyio

GATED = """
@app.consumer("jobs", max_retries=3)
async def handle(message: Message[int]) -> None:
    say("began", message.body, os.getpid(), message.attempts)
    await until_file(f"go{message.body}")
    say("ended", message.body, os.getpid(), message.attempts)
"""


async def test_killed_worker_is_replaced_and_its_message_redelivered_soon(shop: Shop) -> None:
    shop.write(GATED)
    await shop.send(1)
    tree = shop.start()
    await shop.until(lambda: shop.said("began"))
    victim = int(shop.said("began")[0][2])
    os.kill(victim, signal.SIGKILL)
    shop.touch("go1")
    await shop.until(lambda: shop.said("ended"))  # 2 s on a calm machine: a campaign says how many
    _, _, pid, attempts = shop.said("ended")[0]
    assert (int(pid) != victim, attempts) == (True, "2"), "buried by its supervisor: a lease that lapses charges nobody"
    await shop.until_empty()
    tree.send_signal(signal.SIGTERM)
    assert shop.wait(tree) == 0
    assert "killed by signal 9" in shop.log()


async def test_sigterm_lets_the_running_handler_finish_and_gives_back_what_has_not_begun(shop: Shop) -> None:
    shop.write(GATED)
    await shop.send(*range(40))
    shop.touch("go0")
    tree = shop.start("--concurrency", "1")

    async def leased() -> int:
        return sum(each.leased for each in await shop.peek())

    async def are_at_hand() -> bool:
        return len(shop.said("began")) == 2 and await leased() > 1

    async def are_given_back() -> bool:
        return await leased() == 1

    await shop.until_async(are_at_hand)
    tree.send_signal(signal.SIGTERM)
    await shop.until_async(are_given_back)
    shop.touch("go1")
    assert shop.wait(tree) == 0
    assert [words[1] for words in shop.said("ended")] == ["0", "1"]
    left = await shop.peek()
    assert len(left) == 38
    assert {(each.attempts, each.leased) for each in left} == {(0, False)}


async def test_second_sigterm_ends_at_once_and_charges_nobody(shop: Shop) -> None:
    shop.write(GATED)
    await shop.send(1)
    tree = shop.start()
    for tries in range(1, 4):  # on a busy machine it may take long
        await shop.until(lambda: len(shop.said("began")) == tries)
        began = time.monotonic()
        tree.send_signal(signal.SIGTERM)
        assert await insist(tree) == 0
        took_s = time.monotonic() - began
        assert [(each.attempts, each.leased) for each in await shop.peek()] == [(0, False)]
        if took_s < GRACE_S:
            break
        tree = shop.start()
    assert took_s < GRACE_S, "for so long the first one alone would have waited"


async def test_two_signals_in_a_blink_are_one(shop: Shop) -> None:
    shop.write(GATED)
    await shop.send(1)
    tree = shop.start()
    await shop.until(lambda: shop.said("began"))
    tree.send_signal(signal.SIGSTOP)  # so that it is met by both, however busy we are
    tree.send_signal(signal.SIGTERM)
    tree.send_signal(signal.SIGINT)
    tree.send_signal(signal.SIGCONT)
    shop.touch("go1")
    assert shop.wait(tree) == 0
    assert shop.said("ended")


async def test_when_the_supervisor_is_killed_its_workers_end_and_another_tree_takes_over(shop: Shop) -> None:
    shop.write(GATED)
    await shop.send(1)
    first = shop.start("-p", "2")
    await shop.until(lambda: shop.said("began") and len(shop.workers(first)) == 2)
    workers = shop.workers(first)
    other = shop.start()
    await shop.until(lambda: len(shop.workers(other)) == 1)
    await shop.until(lambda: shop.log().count("conveyor.worker.started") == 3)
    orphans = [row.owner for row in await shop.store.list_owners() if row.info.supervisor_pid == first.pid]
    first.kill()
    shop.wait(first)
    await shop.until(lambda: not any(map(_is_alive, workers)))
    shop.touch("go1")

    async def is_done() -> object:
        await shop.store.renew_owners(orphans)  # so it is not the end of a lease that gives the message to another
        return shop.said("ended")

    await shop.until_async(is_done)
    assert int(shop.said("ended")[0][2]) in shop.workers(other)


async def test_poison_alone_is_dead_lettered_and_innocents_keep_their_attempts(shop: Shop) -> None:
    shop.write("""
@app.consumer("jobs", max_retries=3)
async def handle(message: Message[int]) -> None:
    if message.body == 77:
        os._exit(0)
    await asyncio.sleep(0.005)
    say("handled", message.body, message.attempts)
""")
    await shop.send(*range(200))
    shop.start()
    await shop.until_empty()
    assert await shop.dead() == [(77, "crashes")]
    handled = shop.said("handled")
    assert {int(words[1]) for words in handled} == set(range(200)) - {77}
    assert {words[2] for words in handled} == {"1"}


async def test_stopped_worker_is_replaced(shop: Shop) -> None:
    shop.write(GATED)
    await shop.send(1)
    tree = shop.start()
    await shop.until(lambda: shop.said("began"))
    victim = int(shop.said("began")[0][2])
    os.kill(victim, signal.SIGSTOP)
    shop.touch("go1")
    await shop.until(lambda: shop.said("ended"))
    assert not _is_alive(victim)
    assert [words[2] != str(victim) for words in shop.said("ended")] == [True]
    await shop.until_empty()
    tree.send_signal(signal.SIGTERM)
    assert shop.wait(tree) == 0


async def test_leases_survive_an_event_loop_that_is_blocked(shop: Shop) -> None:
    """Two beats long. The supervisor renews, so that nobody else is given the messages meanwhile."""
    shop.write("""
@app.consumer("jobs", max_retries=0)
async def handle(message: Message[int]) -> None:
    say("began", message.body, message.attempts)
    if message.body == 0:
        time.sleep(7)
    say("ended", message.body, message.attempts)
""")
    await shop.send(0)
    shop.start("-p", "2")
    await shop.until(lambda: shop.said("began"))
    await shop.until(lambda: shop.said("ended"))
    await shop.until_empty()
    assert shop.said() == [["began", "0", "1"], ["ended", "0", "1"]]
    assert "died" not in shop.log()


async def test_handler_that_ignores_its_timeout_costs_its_worker_and_fails_alone(shop: Shop) -> None:
    shop.write("""
@app.consumer("jobs", max_retries=0, timeout=1)
async def handle(message: Message[str]) -> None:
    say("began", message.body, message.attempts)
    if message.body == "stubborn":
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

@app.consumer("calm", max_retries=0)
async def calm(message: Message[str]) -> None:
    say("began", message.body, message.attempts)
    await until_file("go")
    say("ended", message.body, message.attempts)
""")
    await shop.send("stubborn")
    await shop.send("neighbour", queue="calm")
    shop.start()
    await shop.until(lambda: len(shop.said("began")) == 2)
    await shop.until_empty()
    assert await shop.dead() == [("stubborn", "timeout")]
    await shop.until(lambda: len(shop.said("began")) == 3)
    shop.touch("go")
    await shop.until_empty("calm")
    assert shop.said("began")[-1] == ["began", "neighbour", "1"]
    assert await shop.dead("calm-dlq") == []


async def test_max_concurrency_holds_across_processes(shop: Shop) -> None:
    shop.write("""
@app.consumer("jobs", max_concurrency=2)
async def handle(message: Message[int]) -> None:
    began = time.monotonic()
    await asyncio.sleep(0.05)
    say("span", began, time.monotonic())
""")
    await shop.send(*range(60))
    shop.start("-p", "3")
    await shop.until(lambda: len(shop.said("span")) == 60)
    spans = [(float(began), float(ended)) for _, began, ended in shop.said("span")]
    edges = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    running, most = 0, 0
    for _, step in edges:
        running += step
        most = max(most, running)
    assert most == 2


async def test_handler_in_a_process_of_its_own_is_killed_at_its_timeout(shop: Shop) -> None:
    shop.write("""
@app.consumer("jobs", run_in="process", timeout=1, max_retries=0)
def spin(message: Message[str]) -> None:
    say("began", message.body, os.getpid())
    while True:
        pass

@app.consumer("calm", run_in="process", timeout=60, max_retries=0)
def handle(message: Message[str]) -> None:
    say("ended", message.body, os.getpid())
""")
    await shop.send("endless")
    await shop.send("quick", queue="calm")
    tree = shop.start()
    await shop.until_empty()
    assert await shop.dead() == [("endless", "timeout")]
    await shop.until_empty("calm")
    assert [words[1] for words in shop.said("ended")] == ["quick"]
    spinning = [int(pid) for _, _, pid in shop.said("began")]
    await shop.until(lambda: not any(map(_is_alive, spinning)))
    assert "conveyor.worker.died" not in shop.log()
    assert len(shop.workers(tree)) == 1


async def test_app_that_fails_at_import_ends_the_tree_with_one_trace(shop: Shop) -> None:
    shop.write("raise RuntimeError('no such shelf')")
    tree = shop.start("-p", "3")
    assert shop.wait(tree) == 1
    assert shop.log().count("Traceback") == 1
    assert shop.log().count("RuntimeError: no such shelf") == 1


async def test_served_app_that_fails_at_import_ends_the_tree_with_one_trace(shop: Shop) -> None:
    shop.write("raise RuntimeError('no such shelf')")
    tree = shop.start("--port", "0", verb="serve")
    assert shop.wait(tree) == 1
    assert shop.log().count("Traceback") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app = None", ["`app` in `shop` is not a Conveyor app", "MODULE:VARIABLE"]),
        ("app = Conveyor('shop', url='sqlite:///elsewhere.db')", ["it keeps its messages in", "--url"]),
    ],
)
async def test_app_that_cannot_be_used_is_refused_in_a_line_with_a_hint(
    shop: Shop, text: str, words: list[str]
) -> None:
    shop.write(text)
    tree = shop.start("-p", "2")
    assert shop.wait(tree) == 1
    assert "Traceback" not in shop.log()
    assert all(shop.log().count(word) == 1 for word in words)
    assert shop.log().count("hint:") == 1


async def test_worker_that_always_dies_young_is_restarted_ever_later(shop: Shop) -> None:
    shop.write("""
@app.consumer("jobs")
async def handle(message: Message[int]) -> None: ...

@app.on_open
async def doom():
    say("born", time.monotonic())
    asyncio.get_running_loop().create_task(die())

async def die():
    births = (FOLDER / "said").read_text().count("born")
    while (FOLDER / "log").read_text().count("conveyor.worker.started") < births:
        await asyncio.sleep(0.01)  # one that is never ready is another matter
    await asyncio.sleep(0.2)
    os._exit(7)
""")
    tree = shop.start()
    await shop.until(lambda: len(shop.said("born")) == 7)
    born = [float(at) for _, at in shop.said("born")]
    gaps = [later - sooner for sooner, later in pairwise(born)]
    assert all(gap > 0.05 * 2**deaths for deaths, gap in enumerate(gaps) if deaths)  # a busy machine makes them longer
    tree.send_signal(signal.SIGTERM)
    assert shop.wait(tree) == 0


async def test_serve_answers_and_ends_in_good_order(shop: Shop) -> None:
    import httpx2

    shop.write("""
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
import contextlib

@contextlib.asynccontextmanager
async def lifespan(_app):
    say("opened")
    yield
    say("closed")

async def hello(_request):
    return PlainTextResponse("hello")

app.mount(Starlette(routes=[Route("/hello", hello)], lifespan=lifespan))

@app.consumer("jobs")
async def handle(message: Message[int]) -> None:
    say("handled", message.body)
""")
    await shop.send(1)
    tree = shop.start("--port", "0", verb="serve")
    await shop.until(lambda: "serving http://127.0.0.1:" in shop.log())
    url = "http://127.0.0.1:" + shop.log().partition("serving http://127.0.0.1:")[2].split()[0]
    async with httpx2.AsyncClient(timeout=60) as client:
        assert (await client.get(f"{url}/healthz")).json() == {"status": "ok"}
        assert (await client.get(f"{url}/readyz")).json() == {"status": "ready"}
        assert (await client.get(f"{url}/hello")).text == "hello"
    await shop.until(lambda: shop.said("handled"))
    tree.send_signal(signal.SIGTERM)
    assert shop.wait(tree) == 0
    assert shop.said("opened")
    assert shop.said("closed")
    assert "died" not in shop.log()


async def test_port_in_use_ends_the_tree_with_a_hint(shop: Shop) -> None:
    import socket

    shop.write(GATED)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        tree = shop.start("--port", str(taken.getsockname()[1]), verb="serve")
        assert shop.wait(tree) == 1
    assert "Traceback" not in shop.log()
    assert shop.log().count("choose another with `--port`") == 1


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
