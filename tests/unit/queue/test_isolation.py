"""Handlers in child processes: what kills a child is charged to its message alone."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conveyor.model.events import ChildDied, Event, MessageDeadLettered, MessageFailed, VerdictIgnored
from conveyor.model.message import ContentType, Lease
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Action
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.frames import ChildRequest, ChildUnusable, Crashed
from conveyor.queue.isolation import ChildPool
from conveyor.queue.outcome import Outcome
from conveyor.store.records import Claimed, ClaimRequest, Ending, Evidence

if TYPE_CHECKING:
    from unit.queue.conftest import Workshop

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")]

POLL_S = 0.005
APP = """
import os, signal, sys, time, types
from typing import Any
from conveyor.model.clock import SystemClock
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Retry
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.handler import read_handler
from conveyor.store.memory import MemoryStore


def do(message):
    match message.body:
        case ["echo", path]:
            with open(path, "a") as file:
                file.write(f"{os.getpid()}\\n")
        case ["signal", number]:
            os.kill(os.getpid(), number)
        case ["exit", status]:
            os._exit(status)
        case ["raise"]:
            raise SystemExit("no")
        case ["interrupt"]:
            raise KeyboardInterrupt
        case ["retry"]:
            message.retry(delay=30)
            message.ack()
        case ["hang", path]:
            open(path, "w").close()
            while True:
                time.sleep(1)
        case ["close everything"]:
            os.closerange(3, 1024)
        case ["fork"]:
            os.fork()
        case ["leave a grandchild"]:
            if os.fork() == 0:
                time.sleep(2)
                os._exit(0)
            os._exit(1)
        case ["kill parent"]:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)


def plain(message: Message[Any]) -> None:
    do(message)


async def on_loop(message: Message[Any]) -> None:
    do(message)


async def in_batch(batch: Batch[Any]) -> None:
    for message in batch:
        do(message)


class App:
    store = MemoryStore(SystemClock())

    opened = []

    def handlers(self):
        functions = {"q": plain, "loop": on_loop, "batch": in_batch}
        return [read_handler(queue, each, ConsumerSettings(), run_in="process") for queue, each in functions.items()]

    async def open_once(self):
        self.opened.append(os.getpid())

    async def ensure_open(self):
        assert self.opened == [os.getppid()]


def load_app(target):
    if target != "app":
        raise SystemExit("there is no such app")
    return App()


loader = types.ModuleType("conveyor.loader")
loader.load_app = load_app
sys.modules["conveyor.loader"] = loader

from conveyor.queue.child import main
main(sys.argv[1:])
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "child_app.py"
    path.write_text(APP)
    return path


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
async def pool(program: Path, told: list[Event]) -> AsyncIterator[ChildPool]:
    pool = ChildPool([sys.executable, str(program), "app"], 2, told.append)
    yield pool
    await pool.close()


def request(*bodies: str, queue: str = "q") -> ChildRequest:
    leases = [
        Lease(seq=seq, claim=1, id=bytes(16), queue=queue, body=body.encode(), content_type=ContentType.JSON, sent_at=0)  # type: ignore[arg-type]  # any bytes are an id here
        for seq, body in enumerate(bodies, 1)
    ]
    return ChildRequest(queue=queue, owner=1, leases=leases, settings=ConsumerSettings(), chance=0.5)


async def until_there(path: Path) -> None:
    async with asyncio.timeout(60):
        while not os.path.exists(path):  # noqa: ASYNC240, PTH110  # one look at a time
            await asyncio.sleep(POLL_S)


@pytest.mark.parametrize("queue", ["q", "loop", "batch"])
async def test_a_child_keeps_running_calls_one_after_another(pool: ChildPool, tmp_path: Path, queue: str) -> None:
    log = tmp_path / "log"
    for _ in range(5):
        outcome = await pool.run(request(f'["echo", "{log}"]', queue=queue))
        assert isinstance(outcome, Outcome)
        assert [each.action for each in outcome.settlements] == [Action.ACK]
    pids = log.read_text().split()
    assert len(pids) == 5 and len(set(pids)) == 1 and pids[0] != str(os.getpid())


@pytest.mark.parametrize("queue", ["q", "loop"])
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (f'["signal", {int(signal.SIGKILL)}]', "killed by signal 9"),
        (f'["signal", {int(signal.SIGSEGV)}]', "killed by signal 11"),
        ('["exit", 0]', "exited with status 0"),
        ('["exit", 3]', "exited with status 3"),
        ('["leave a grandchild"]', "exited with status 1"),
        ('["kill parent"]', "its parent ended"),
    ],
)
async def test_the_death_of_a_child_is_an_answer_and_the_next_call_has_a_new_one(
    pool: ChildPool, told: list[Event], body: str, detail: str, queue: str, tmp_path: Path
) -> None:
    assert await pool.run(request(body, queue=queue)) == Crashed(detail)
    outcome = await pool.run(request(f'["echo", "{tmp_path / "log"}"]'))
    assert isinstance(outcome, Outcome)
    assert [event.detail for event in told if isinstance(event, ChildDied)] == [detail]


@pytest.mark.parametrize("queue", ["q", "loop"])
async def test_a_handler_that_closes_all_files_ends_its_child_and_nothing_else(pool: ChildPool, queue: str) -> None:
    assert isinstance(await pool.run(request('["close everything"]', queue=queue)), Crashed)
    assert isinstance(await pool.run(request('["raise"]', queue=queue)), Outcome)


async def test_a_new_runner_costs_a_fork_and_no_new_interpreter(pool: ChildPool) -> None:
    began = time.monotonic()
    await pool.run(request('["exit", 1]'))
    with_interpreter_s = time.monotonic() - began
    took_s: list[float] = []
    for _ in range(20):
        began = time.monotonic()
        assert isinstance(await pool.run(request('["exit", 1]')), Crashed)
        took_s.append(time.monotonic() - began)
    assert statistics.median(took_s) < with_interpreter_s / 2


@pytest.mark.parametrize("queue", ["q", "loop"])
async def test_errors_and_verdicts_come_back_as_in_the_worker(pool: ChildPool, queue: str) -> None:
    raised = await pool.run(request('["raise"]', queue=queue))
    interrupted = await pool.run(request('["interrupt"]', queue=queue))
    marked = await pool.run(request('["retry"]', queue=queue))
    unreadable = await pool.run(request("{", queue=queue))
    assert isinstance(raised, Outcome) and raised.settlements[0].error == "SystemExit: no"
    assert isinstance(interrupted, Outcome) and interrupted.settlements[0].error == "KeyboardInterrupt"
    assert isinstance(marked, Outcome) and marked.settlements[0].delay_ms == 30_000
    assert [type(event) for event in marked.ignored] == [VerdictIgnored]
    assert isinstance(unreadable, Outcome) and "BodyDecodeError" in (unreadable.settlements[0].error or "")


async def test_a_handler_that_forks_and_returns_twice_is_settled_once(pool: ChildPool, tmp_path: Path) -> None:
    for queue in ("q", "loop"):
        outcome = await pool.run(request('["fork"]', queue=queue))
        assert isinstance(outcome, Outcome) and len(outcome.settlements) == 1
    after = await pool.run(request(f'["echo", "{tmp_path / "log"}"]'))
    assert isinstance(after, Outcome)


async def test_cancelling_a_call_kills_its_child(pool: ChildPool, told: list[Event], tmp_path: Path) -> None:
    call = asyncio.ensure_future(pool.run(request(f'["hang", "{tmp_path / "begun"}"]')))
    await until_there(tmp_path / "begun")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    outcome = await pool.run(request(f'["echo", "{tmp_path / "log"}"]'))
    assert isinstance(outcome, Outcome)
    assert [event.detail for event in told if isinstance(event, ChildDied)] == ["killed by signal 9"]


async def test_a_large_body_goes_through(pool: ChildPool) -> None:
    outcome = await pool.run(request(*[f'"{"x" * 127_000}"'] * 20, queue="batch"))
    assert isinstance(outcome, Outcome) and len(outcome.settlements) == 20


@pytest.mark.parametrize("command", [[sys.executable, "PROGRAM", "no such app"], ["/no/such/program"]])
async def test_a_child_that_cannot_start_is_not_the_messages_fault(
    program: Path, told: list[Event], command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    pool = ChildPool([str(program) if word == "PROGRAM" else word for word in command], 1, told.append)
    assert isinstance(await pool.run(request('["echo"]')), ChildUnusable)
    await pool.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_the_children_end_with_their_worker(program: Path, tmp_path: Path) -> None:
    """The worker is SIGKILLed in the middle of a call."""
    worker = tmp_path / "worker.py"
    begun, pids = tmp_path / "begun", tmp_path / "pids"
    worker.write_text(
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_isolation import ChildPool, request\n"
        "async def main():\n"
        f"    pool = ChildPool([sys.executable, {str(program)!r}, 'app'], 1, print)\n"
        f'    await pool.run(request(\'["echo", "{pids}"]\'))\n'
        f'    await pool.run(request(\'["hang", "{begun}"]\'))\n'
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, str(worker))
    await until_there(begun)
    pid = int(pids.read_text())
    assert is_alive(pid)
    process.kill()
    await process.wait()
    async with asyncio.timeout(60):
        while is_alive(pid):
            await asyncio.sleep(POLL_S)


async def work(workshop: Workshop, pool: ChildPool, function: Any, **settings: Any) -> Any:
    handler = await workshop.declare(function, run_in="process", **settings)
    return await workshop.start(handler, isolation=pool)


async def test_poison_in_a_process_reaches_the_dead_letters_and_others_flow(
    workshop: Workshop, pool: ChildPool, tmp_path: Path
) -> None:
    def handle(message: Message[Any]) -> None: ...

    await work(workshop, pool, handle, max_retries=10)
    log = tmp_path / "log"
    await workshop.queue().send_batch([["echo", str(log)], ["signal", 9], ["echo", str(log)]])
    async with asyncio.timeout(60):
        while await workshop.backlog():
            await workshop.clock.advance(0.1)
            await asyncio.sleep(POLL_S)  # the child takes real time
    [dead] = await workshop.peek("q-dlq")
    assert dead.dead is not None and dead.dead.reason == "crashes"
    assert dead.dead.last_error == "killed by signal 9"
    assert len(log.read_text().split()) == 2
    assert [event.attempt for event in workshop.told(MessageFailed)] == [1, 2, 3]
    assert len(workshop.told(MessageDeadLettered)) == 1


async def test_a_call_over_its_time_is_killed_with_its_child(
    workshop: Workshop, pool: ChildPool, tmp_path: Path
) -> None:
    def handle(message: Message[Any]) -> None: ...

    await work(workshop, pool, handle, max_retries=0, timeout_ms=1_000)
    await workshop.queue().send(["hang", str(tmp_path / "begun")])
    await until_there(tmp_path / "begun")
    async with asyncio.timeout(60):
        while await workshop.backlog():  # whenever it looks at its calls
            await workshop.clock.advance(0.1)
            await asyncio.sleep(POLL_S)  # the child takes real time
    [dead] = await workshop.peek("q-dlq")
    assert dead.dead is not None and dead.dead.reason == "timeout"


async def test_suspects_run_one_at_a_time_in_a_child(workshop: Workshop, pool: ChildPool, tmp_path: Path) -> None:
    """Two messages ran when their worker died; one of them will do it again."""
    here: list[Any] = []

    async def handle(message: Message[Any]) -> None:
        here.append(message.body)

    handler = await workshop.declare(handle)
    log = tmp_path / "log"
    await workshop.queue().send_batch([["echo", str(log)], ["signal", 9]])
    first = await workshop.store.register_owner(workshop.owner_info())
    claimed: Claimed = await workshop.store.claim(ClaimRequest(queue="q", owner=first, limit=2))
    started = frozenset(lease.seq for lease in claimed.leases)
    await workshop.store.reap_owner(first, Evidence(ending=Ending.CRASHED, started=started))
    await workshop.start(handler, isolation=pool)
    await workshop.queue().send(["innocent"])
    async with asyncio.timeout(60):
        while await workshop.backlog():
            await workshop.clock.advance(0.1)
            await asyncio.sleep(POLL_S)  # the child takes real time
    assert here == [["innocent"]] and len(log.read_text().split()) == 1
    [dead] = await workshop.peek("q-dlq")
    assert dead.dead is not None and dead.dead.reason == "crashes"


async def test_a_batch_that_kills_its_child_is_charged_to_its_messages_which_then_run_alone(
    workshop: Workshop, pool: ChildPool, tmp_path: Path
) -> None:
    async def handle(batch: Batch[Any]) -> None: ...

    log = tmp_path / "log"
    handler = await workshop.declare(handle, "batch", run_in="process", max_batch_timeout_ms=0)
    await workshop.queue("batch").send_batch([["echo", str(log)], ["exit", 1]])
    await workshop.start(handler, isolation=pool)
    async with asyncio.timeout(60):
        while await workshop.backlog("batch"):
            await workshop.clock.advance(0.1)
            await asyncio.sleep(POLL_S)  # the child takes real time
    [dead] = await workshop.peek("batch-dlq")
    assert dead.body == b'["exit",1]'
